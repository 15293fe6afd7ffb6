"""What is wrong with a data set, before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from data.documents import Sample
from data.mixture import Ingredient
from data.reading import Cut, Reader
from flamingo_app.errors import DataError, FlamingoError
from flamingo_app.images import open_picture
from flamingo_app.prompt import IMAGE_TOKEN

SHOWN = 2  # sample rows of each source
NAMED = 1000  # bad rows of each source


@dataclass(kw_only=True)
class Findings:
    """Of one source.

    Args:
        path: the source.
        rows: looked at.
        bad: (row, why) of those that cannot be trained on.
        cut: rows that are longer than the model reads.
        silent: pictures with no words before the next one.
        duplicates: rows with the same pictures and words as an earlier one, of an earlier source too.
        lengths: tokens of each good row.
        examples: rows as the model sees them.
        unnamed: pictures in the source's folder that none of its rows names; not looked for among some rows only.
    """

    path: str
    rows: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    cut: int = 0
    silent: int = 0
    duplicates: int = 0
    pictures: int = 0
    lengths: list[int] = field(default_factory=list[int])
    examples: list[str] = field(default_factory=list[str])
    unnamed: list[str] = field(default_factory=list[str])


def lint(
    ingredient: Ingredient, reader: Reader, seen: set[bytes], *, most: int | None = None
) -> tuple[Ingredient, Findings]:
    """Look at a source's rows and leave out those that cannot be trained on.

    Args:
        seen: what there was in earlier sources; what is in this one is added.
        most: look at so many rows, evenly spread; those not looked at stay in.
    """
    found = Findings(path=ingredient.path)
    numbers = ingredient.kept
    if most is not None:
        numbers = numbers[np.unique(np.linspace(0, len(numbers) - 1, most).astype(int))]
    named: set[Path] = set()
    for number in numbers.tolist():
        found.rows += 1
        try:
            sample = ingredient.source[number]
            named |= {picture.resolve() for picture in sample.pictures if isinstance(picture, Path)}
            cut = reader.cut(sample)
            for picture in cut.pictures:
                open_picture(picture)
        except FlamingoError as error:
            found.bad.append((number, f"{ingredient.source.name(number)}: {error}"))
            continue
        _note(found, sample, cut, reader)
        identity = _identity(sample)
        found.duplicates += identity in seen
        seen.add(identity)
    if most is None and named:
        found.unnamed = [str(path) for path in _pictures_in(Path(ingredient.path)) if path.resolve() not in named]
    bad = {number for number, _ in found.bad}
    kept = np.array([number for number in ingredient.kept.tolist() if number not in bad], dtype=np.int64)
    return replace(ingredient, kept=kept), found


def _pictures_in(folder: Path) -> list[Path]:
    """Files in a folder, at any depth, that look like pictures by their name; none where it is no folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in Image.registered_extensions())


def _note(found: Findings, sample: Sample, cut: Cut, reader: Reader) -> None:
    found.cut += cut.cut > 0
    found.pictures += len(cut.pictures)
    said = Counter(pictures for _, weight, pictures, _ in cut.tokens if weight > 0)
    found.silent += sum(not said[number] for number in range(1, len(cut.pictures) + 1))
    found.lengths.append(len(cut.tokens))
    if len(found.examples) < SHOWN:
        found.examples.append(f"{sample.name}: {as_seen(cut, reader)}")


def as_seen(cut: Cut, reader: Reader) -> str:
    """A row as the model reads it; what it is to learn stands between [ and ], after the turns to remember."""
    decode = reader.processor.tokenizer.decode
    pieces = [f"(remembered: {decode([token for token, *_ in tokens])}) " for tokens, _ in cut.turns]
    learning = False
    for token, weight, _, _ in cut.row:
        if (weight > 0) != learning:
            pieces.append("]" if learning else "[")
            learning = weight > 0
        pieces.append(decode([token]))
    return "".join(pieces) + "]" * learning


def _identity(sample: Sample) -> bytes:
    digest = hashlib.sha256(repr([piece for piece, _ in sample.pieces]).encode())
    for picture in sample.pictures:
        whole = picture if isinstance(picture, bytes) else None
        if isinstance(picture, str | Path):
            whole = Path(picture).read_bytes()
        digest.update(whole if whole is not None else open_picture(picture).tobytes())
    return digest.digest()


def table(findings: Sequence[Findings]) -> Iterator[str]:
    """The findings for people: bad rows, some rows as the model reads them, and all of them in numbers."""
    for found in findings:
        yield from (f"bad  {why}" for _, why in found.bad[:NAMED])
        if len(found.bad) > NAMED:
            yield f"bad  and {len(found.bad) - NAMED} more of {found.path}"
        if found.unnamed:
            yield f"left  pictures that no row of {found.path} names: {len(found.unnamed)}, such as {found.unnamed[0]}"
        yield from (f"row  {example}" for example in found.examples)
    if any(found.examples for found in findings):
        yield f"The model reads these rows and learns what stands between [ and ]; {IMAGE_TOKEN} is a picture."
    yield f"{'rows':>8} {'bad':>6} {'cut':>6} {'silent':>7} {'twice':>6} {'pictures':>9} {'tokens':>13}  source"
    for found in findings:
        lengths = found.lengths or [0]
        span = f"{min(lengths)}-{int(np.median(lengths))}-{max(lengths)}"
        yield (
            f"{found.rows:8} {len(found.bad):6} {found.cut:6} {found.silent:7} {found.duplicates:6} "
            f"{found.pictures:9} {span:>13}  {found.path}"
        )
    yield (
        "bad: left out.  cut: longer than the model reads.  silent: pictures without words after them.  "
        "twice: as an earlier row.  tokens: least, median, most."
    )


def check(findings: Sequence[Findings], *, most_bad: float) -> None:
    """Refuse data of which too much is bad.

    Raises:
        DataError: more than this share of a source's rows is bad, or all of them are.
    """
    for found in findings:
        if found.rows and (len(found.bad) == found.rows or len(found.bad) > most_bad * found.rows):
            raise DataError(
                expected=f"at most {100 * most_bad:g}% bad rows in {found.path}",
                got=f"{len(found.bad)} of {found.rows}",
                remedy="correct the rows listed above, or allow more with --max-bad",
            )
