"""flamingo serve: the chat page and the HTTP API."""

from __future__ import annotations

from argparse import Namespace


def run(options: Namespace) -> int:
    """Serve until interrupted."""
    from flamingo_app.interfaces.server import ServerOptions, serve

    given = {name: value for name, value in vars(options).items() if name in ServerOptions.__dataclass_fields__}
    serve(ServerOptions(**given))
    return 0
