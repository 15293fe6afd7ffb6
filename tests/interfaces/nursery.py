"""Processes of a command that start at once: each is forked from this one, which has imported everything already.

    python -m tests.interfaces.nursery ARGUMENTS...

A line on standard input starts `flamingo ARGUMENTS`; its process id comes back on standard output.
"""

from __future__ import annotations

import os
import signal
import sys

import open_clip  # noqa: F401  # what every server needs

import flamingo_app.interfaces.server  # noqa: F401
from flamingo_app.interfaces.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
    for _ in sys.stdin:
        process = os.fork()
        if not process:
            os.dup2(2, 1)  # what it says is not our answer
            os._exit(main(sys.argv[1:]))
        print(process, flush=True)
