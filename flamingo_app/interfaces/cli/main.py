"""From the command line to an exit status."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from flamingo_app.interfaces.cli.common import guarded
from flamingo_app.interfaces.cli.parser import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0: all fine, 1: some pictures failed, 2: bad usage, or nothing could be done."""
    options = build_parser().parse_args(argv)
    return guarded("flamingo", lambda: _run(options))


def _run(options: Namespace) -> int:
    match options.command:
        case "caption":
            from flamingo_app.interfaces.cli import caption as command
        case "classify":
            from flamingo_app.interfaces.cli import classify as command
        case "report":
            from flamingo_app.interfaces.cli import report as command
        case "ask":
            from flamingo_app.interfaces.cli import ask as command
        case "info":
            from flamingo_app.interfaces.cli import info as command
        case "import":
            from flamingo_app.interfaces.cli import import_ as command
        case _:
            from flamingo_app.interfaces.cli import serve as command
    return command.run(options)
