"""flamingo caption: a record for each picture."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flamingo_app.errors import PictureError
from flamingo_app.fewshot.shots import read_shots
from flamingo_app.images import open_picture
from flamingo_app.interfaces.cli.common import check_words, complain, load_model
from flamingo_app.interfaces.cli.paths import find_pictures
from flamingo_app.interfaces.cli.records import Record, destination, write_records

if TYPE_CHECKING:
    from flamingo_app.fewshot.captioning import Caption


def run(options: Namespace) -> int:
    """Check everything that can be checked, then load the model and write a record for each picture."""
    if options.prompt is not None:
        check_words("--prompt", options.prompt)
    paths = find_pictures(options.paths)
    shots = read_shots(options.shots) if options.shots else []
    if not _any_opens(paths):
        return 2
    start, count = time.monotonic(), Count()
    with destination(options.out) as file:
        model, processor = load_model(options.model)
        from flamingo_app.fewshot.captioning import caption

        captions = caption(
            model,
            paths,
            processor=processor,
            shots=shots,
            prompt=options.prompt or "",
            batch_size=options.batch_size,
            select=options.select,
            num_shots=options.num_shots,
        )
        write_records(count.records(paths, captions), file, options.format)
    if options.json:
        summary = {"pictures": len(paths), "captioned": count.captioned, "failed": count.failed, "out": options.out}
        seconds = round(time.monotonic() - start, 3)
        where = sys.stdout if options.out else sys.stderr
        print(json.dumps(summary | {"model": options.model, "seconds": seconds}), file=where)
    return 1 if count.failed else 0


def _any_opens(paths: Sequence[str]) -> bool:
    """Whether there is anything to do; where no picture opens, says why of each."""
    errors: list[PictureError] = []
    for path in paths:
        try:
            open_picture(path)
        except PictureError as error:
            errors.append(error)
        else:
            return True
    for error in errors:
        complain(error)
    return False


@dataclass
class Count:
    """How many pictures came out how, so far."""

    captioned: int = 0
    failed: int = 0

    def records(self, paths: Sequence[str], captions: Iterable[Caption]) -> Iterator[Record]:
        """Captions as records, counted; what failed is said at once."""
        for path, caption in zip(paths, captions, strict=True):
            record: Record = {"file_name": path, "text": caption.text, "score": caption.score}
            if caption.error is None:
                self.captioned += 1
                yield record
            else:
                self.failed += 1
                complain(caption.error)
                yield record | {"error": caption.error}
