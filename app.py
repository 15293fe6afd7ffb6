"""The web chat: build it, serve it.

python app.py [--model starter] [--host 127.0.0.1] [--port 7860]
"""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description="Chat with a Flamingo in the browser.")
    parser.add_argument("--model", default="starter", help="starter, a preset, or a folder (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=7860, type=int, help="the port to listen on (default: %(default)s)")
    options = parser.parse_args()

    # Only now: --help need not wait for torch.
    from flamingo_app.errors import FlamingoError
    from flamingo_app.interfaces.web import serve

    try:
        serve(options.model, host=options.host, port=options.port)
    except FlamingoError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
