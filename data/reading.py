"""Samples to tensors: cut to length, pictures opened and made ready, or taken from the feature cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.collate import Token, pad, tokens
from data.documents import Picture, Sample
from flamingo_app.errors import DataError
from flamingo_app.images import open_picture
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import Mark, encode

LEAST_AREA = 0.7  # of a picture that augmentation leaves to be seen


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A sample's tokens as far as the model reads them, with the pictures among them.

    Args:
        name: of the sample.
        row: the tokens that are read together.
        pictures: those of `turns`, then those of `row`.
        cut: tokens that were left out.
        turns: what is read by itself before, to be remembered: tokens, and how many of the pictures are theirs.
    """

    name: str
    row: list[Token]
    pictures: tuple[Picture, ...]
    cut: int
    turns: tuple[tuple[list[Token], int], ...] = ()

    @property
    def num_labels(self) -> int:
        """Tokens that count in the loss; the first of a row is never predicted."""
        return sum(token[1] > 0 for token in self.row[1:])

    @property
    def tokens(self) -> list[Token]:
        """All that is read."""
        return [*chain.from_iterable(tokens for tokens, _ in self.turns), *self.row]


class _Part(NamedTuple):
    tokens: list[Token]
    shown: slice  # which of the sample's pictures


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How samples become a batch.

    Args:
        processor: of the model.
        max_tokens: a longer sample is cut there.
        max_images: further pictures are cut off, and all that follows them.
        augment: show another part of each picture every time.
        remembers: the first half of a sample's chunks are turns that have left the window, each read by itself.
    """

    processor: FlamingoProcessor
    max_tokens: int
    max_images: int
    augment: bool = False
    remembers: bool = False

    def cut(self, sample: Sample) -> Cut:
        """A sample's tokens, no longer than the model may read.

        Raises:
            DataError: for a sample from which nothing is to be learnt.
        """
        whole = tokens(sample, self.processor.tokenizer)
        *turns, row = self._parts([token for token in whole if token[2] <= self.max_images])
        cut = Cut(
            name=sample.name,
            row=row.tokens,
            pictures=tuple(chain.from_iterable(sample.pictures[part.shown] for part in (*turns, row))),
            cut=len(whole) - sum(len(part.tokens) for part in (*turns, row)),
            turns=tuple((part.tokens, part.shown.stop - part.shown.start) for part in turns),
        )
        if self.remembers and not turns:
            what, remedy = "a single chunk, before which is nothing to remember", "leave memory out of --train"
        elif not cut.pictures:
            what, remedy = "no picture", "give it one"
        elif not cut.num_labels:
            what, remedy = "no words after its pictures to learn", "write some, or raise --max-tokens"
        else:
            return cut
        raise DataError(expected=f"pictures and words in {sample.name}", got=what, remedy=remedy)

    def _parts(self, row: list[Token]) -> list[_Part]:
        """What is read by itself: turns that are to be remembered, and at last what is read with the memory of them."""
        ends = [0, len(row)]
        if self.remembers:
            (end,) = encode((Mark.END_OF_CHUNK,), self.processor.tokenizer)
            chunks = [0, *(place + 1 for place, token in enumerate(row[:-1]) if token[0] == end), len(row)]
            ends = [*chunks[: (len(chunks) + 1) // 2], len(row)]
        parts: list[_Part] = []
        for start, stop in pairwise(ends):
            read = row[start : min(stop, start + self.max_tokens)]
            parts.append(_Part(read, slice(row[start - 1][2] if start else 0, read[-1][2] if read else 0)))
        return parts

    def pixels(self, cut: Cut, chance: str) -> Tensor:
        """Pixel values (pictures 3 height width); augmentation hangs on `chance` alone.

        Raises:
            PictureError: a picture cannot be opened.
        """
        opened = [open_picture(picture) for picture in cut.pictures]
        if self.augment:
            random = Random(chance)
            opened = [crop(picture, random) for picture in opened]
        return self.processor.image_processor.pixels(opened)

    def batch(self, cuts: Sequence[Cut], pictures: Sequence[Tensor], form: str) -> dict[str, Any]:
        """Rows side by side, each up to its last token that counts.

        Args:
            pictures: of each row, (pictures ...), in whatever form the model takes them.
            form: the name that the model takes that form by.

        Returns:
            input_ids, attention_mask, weights (batch tokens); the pictures (batch images 1 ...), image_mask
            (batch images). Of a reader that remembers also `turns`, a batch of all turns in these rows, and `left`
            (batch places): the numbers of each row's turns in it, in order; -1 where there are no more.
        """
        parts = [
            shown.split([*(count for _, count in cut.turns), len(shown) - sum(count for _, count in cut.turns)])
            for cut, shown in zip(cuts, pictures, strict=True)
        ]
        learnt = [_learnt(cut.row, shown[-1]) for cut, shown in zip(cuts, parts, strict=True)]
        batch = self._side_by_side(learnt, form)
        if not self.remembers:
            return batch
        gone = [
            (tokens, part)
            for cut, shown in zip(cuts, parts, strict=True)
            for (tokens, _), part in zip(cut.turns, shown[:-1], strict=True)
        ]
        counts = torch.tensor([len(cut.turns) for cut in cuts])
        there = torch.arange(int(counts.max())) < counts[:, None]
        batch["left"] = torch.full(there.shape, -1).masked_scatter(there, torch.arange(len(gone)))
        if gone:
            batch["turns"] = self._side_by_side(gone, form)
            del batch["turns"]["weights"]
        return batch

    def _side_by_side(self, rows: Sequence[tuple[list[Token], Tensor]], form: str) -> dict[str, Any]:
        batch: dict[str, Any] = pad([tokens for tokens, _ in rows], self.processor.tokenizer.pad_token_id)
        del batch["text_time"]
        pictures = [shown for _, shown in rows]
        counts = torch.tensor([len(shown) for shown in pictures])
        exists = torch.arange(max(1, int(counts.max()))) < counts[:, None]
        shown = pictures[0].new_zeros(*exists.shape, 1, *pictures[0].shape[1:])
        shown[exists] = torch.cat(pictures).unsqueeze(1)
        return batch | {form: shown, "image_mask": exists}


def _learnt(row: list[Token], pictures: Tensor) -> tuple[list[Token], Tensor]:
    """A row without what stands behind its last token that counts: nothing is learnt there."""
    last = max((place for place, token in enumerate(row) if token[1] > 0), default=len(row) - 1)
    return row[: last + 1], pictures[: len(pictures) - (row[-1][2] - row[last][2])]


def crop(picture: Image.Image, random: Random) -> Image.Image:
    """A part of a picture; never mirrored, since words may tell left from right."""
    side = np.sqrt(random.uniform(LEAST_AREA, 1.0))
    width, height = max(1, round(picture.width * side)), max(1, round(picture.height * side))
    left, top = random.randint(0, picture.width - width), random.randint(0, picture.height - height)
    return picture.crop((left, top, left + width, top + height))
