"""Samples to tensors: cut to length, pictures opened and made ready, or taken from the feature cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.collate import Token, pad, tokens
from data.documents import Picture, Sample
from flamingo_app.errors import DataError
from flamingo_app.images import open_picture
from flamingo_app.processing import FlamingoProcessor

LEAST_AREA = 0.7  # of a picture that augmentation leaves to be seen


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A sample's tokens as far as the model reads them, with the pictures among them.

    Args:
        name: of the sample.
        cut: tokens that were left out at its end.
    """

    name: str
    row: list[Token]
    pictures: tuple[Picture, ...]
    cut: int

    @property
    def num_labels(self) -> int:
        """Tokens that count in the loss; the first of a row is never predicted."""
        return sum(token[1] > 0 for token in self.row[1:])


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How samples become a batch.

    Args:
        processor: of the model.
        max_tokens: a longer sample is cut there.
        max_images: further pictures are cut off, and all that follows them.
        augment: show another part of each picture every time.
    """

    processor: FlamingoProcessor
    max_tokens: int
    max_images: int
    augment: bool = False

    def cut(self, sample: Sample) -> Cut:
        """A sample's tokens, no longer than the model may read.

        Raises:
            DataError: for a sample from which nothing is to be learnt.
        """
        whole = tokens(sample, self.processor.tokenizer)
        row = [token for token in whole[: self.max_tokens] if token[2] <= self.max_images]
        shown = row[-1][2] if row else 0
        cut = Cut(name=sample.name, row=row, pictures=sample.pictures[:shown], cut=len(whole) - len(row))
        if not shown:
            what, remedy = "no picture", "give it one"
        elif not cut.num_labels:
            what, remedy = "no words after its pictures to learn", "write some, or raise --max-tokens"
        else:
            return cut
        raise DataError(expected=f"pictures and words in {sample.name}", got=what, remedy=remedy)

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

    def batch(self, cuts: Sequence[Cut], pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Rows side by side.

        Args:
            pictures: of each row, (pictures ...), in whatever form the model takes them.

        Returns:
            input_ids, attention_mask, weights (batch tokens); pictures (batch images 1 ...), image_mask (batch images).
        """
        batch: dict[str, Any] = pad([cut.row for cut in cuts], self.processor.tokenizer.pad_token_id)
        del batch["text_time"]
        counts = torch.tensor([len(row) for row in pictures])
        exists = torch.arange(int(counts.max())) < counts[:, None]
        shown = pictures[0].new_zeros(*exists.shape, 1, *pictures[0].shape[1:])
        shown[exists] = torch.cat(list(pictures)).unsqueeze(1)
        return batch | {"pictures": shown, "image_mask": exists}


def crop(picture: Image.Image, random: Random) -> Image.Image:
    """A part of a picture; never mirrored, since words may tell left from right."""
    side = np.sqrt(random.uniform(LEAST_AREA, 1.0))
    width, height = max(1, round(picture.width * side)), max(1, round(picture.height * side))
    left, top = random.randint(0, picture.width - width), random.randint(0, picture.height - height)
    return picture.crop((left, top, left + width, top + height))
