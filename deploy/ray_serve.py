"""The application on Ray Serve: replicas share the database and the pictures, and any goes on with any conversation.

    pip install 'flamingo-app[ray,postgres]'
    DATABASE_URL=postgresql://... PICTURES_URL=s3://... REPLICAS=2 serve run deploy.ray_serve:application

A page talks to one replica while it is open, so the page's requests need a load balancer that keeps a visitor with a
replica; the API needs none.
"""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from ray import serve  # pyright: ignore[reportMissingImports]

from flamingo_app.interfaces.server import ServerOptions, build_app


def build() -> FastAPI:
    """The application of one replica; it loads its own model."""
    given = {"model": "MODEL", "data": "DATA", "database_url": "DATABASE_URL", "pictures_url": "PICTURES_URL"}
    found: dict[str, Any] = {option: os.environ[name] for option, name in given.items() if name in os.environ}
    return build_app(ServerOptions(**found))


@serve.deployment(num_replicas=int(os.environ.get("REPLICAS", "2")), max_ongoing_requests=128)
@serve.ingress(build)
class Flamingo:
    """One replica."""


application = Flamingo.bind()  # pyright: ignore[reportAttributeAccessIssue]
