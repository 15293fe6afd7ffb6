"""flamingo serve: the chat page."""

from __future__ import annotations

from argparse import Namespace


def run(options: Namespace) -> int:
    """Serve until interrupted."""
    from flamingo_app.interfaces.web import serve

    serve(model=options.model, host=options.host, port=options.port)
    return 0
