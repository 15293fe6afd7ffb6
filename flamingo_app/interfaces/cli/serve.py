"""flamingo serve: the chat page and the HTTP API."""

from __future__ import annotations

from argparse import Namespace

from flamingo_app.presets import check_model_name


def run(options: Namespace) -> int:
    """Serve until interrupted."""
    check_model_name(options.model)
    from flamingo_app.interfaces.server import ServerOptions, serve

    given = {name: value for name, value in vars(options).items() if name in ServerOptions.__dataclass_fields__}
    serve(ServerOptions(**given))
    return 0
