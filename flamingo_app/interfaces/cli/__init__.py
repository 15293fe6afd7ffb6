"""The command `flamingo`.

parser      what can be typed; importing it costs nothing, so that --help is at once
paths       files, folders and globs to pictures
records     captions to JSON lines, COCO or CSV, in a file that is whole or not there
common      words, a model, and complaints
caption, ask, info, import_, serve    one file a command: check, load, run, print
"""

from flamingo_app.interfaces.cli.main import main

__all__ = ["main"]
