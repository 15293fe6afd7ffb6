"""The command `flamingo`.

parser      what can be typed; importing it costs nothing, so that --help is at once
paths       files, folders, globs, lists and shards to pictures
records     records to JSON lines, COCO or CSV
journal     a file of records that a later run goes on with
job         a record for each picture of many: what caption and classify share
common      words, shots, a model, and complaints
caption, classify, ask, info, import_, serve    one file a command: check, load, run, print
"""

from flamingo_app.interfaces.cli.main import main

__all__ = ["main"]
