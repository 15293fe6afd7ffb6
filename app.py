"""The web chat and its API: build them, serve them.

python app.py [--model starter] [--host 127.0.0.1] [--port 7860], and the rest of `flamingo serve --help`
"""

from __future__ import annotations

import argparse
import sys

from flamingo_app.errors import FlamingoError
from flamingo_app.interfaces.cli.parser import add_serve_options
from flamingo_app.interfaces.cli.serve import run


def main() -> int:
    parser = argparse.ArgumentParser(description="Chat with a Flamingo in the browser.")
    add_serve_options(parser)
    try:
        return run(parser.parse_args())
    except FlamingoError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
