"""From the command line to an exit status."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from flamingo_app.errors import FlamingoError
from flamingo_app.interfaces.cli.common import complain
from flamingo_app.interfaces.cli.parser import build_parser

INTERRUPTED = 130
"""What a shell expects of a command that was stopped from the keyboard."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0: all fine, 1: some pictures failed, 2: bad usage, or nothing could be done."""
    options = build_parser().parse_args(argv)
    try:
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
    except FlamingoError as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno == errno.ENOSPC:
            complain(FlamingoError(expected="room to write", got="a full disk", remedy="free some, or choose another"))
        elif error.filename is not None:
            got = f"{str(error.filename)!r}: {error.strerror}"
            complain(FlamingoError(expected="a file that can be used", got=got, remedy="see to it, or choose another"))
        else:
            raise
        return 2
