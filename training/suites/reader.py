"""A model being examined: pictures and prompts in, words out, by the same way a user's go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm

from data.picture_book import Renderer, Scene
from flamingo_app.images import Source
from flamingo_app.memory.slots import Slots
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import Mark, Prompt, Turn, chat_prompt

Item = TypeVar("Item")


@dataclass(frozen=True)
class Reader:
    """Answers prompts greedily.

    Args:
        model, processor: as `flamingo_app.load` returns them.
        batch_size: prompts at once.
    """

    model: FlamingoForConditionalGeneration
    processor: FlamingoProcessor
    batch_size: int = 50

    def answer(
        self,
        prompts: Sequence[Prompt],
        images: Sequence[Sequence[Source]],
        *,
        tokens: int = 40,
        slots: Slots | None = None,
    ) -> list[str]:
        """What the model goes on to say, up to its end of chunk, for each prompt with its pictures.

        Args:
            tokens: most of an answer.
            slots: a memory for each prompt; None for none.
        """
        answers: list[str] = []
        for rows in tqdm(list(_chunks(range(len(prompts)), self.batch_size)), leave=False, desc="answering"):
            inputs = self.processor.prompts([prompts[row] for row in rows], [images[row] for row in rows])
            inputs = inputs.to(self.model.device)
            with torch.inference_mode():
                memory = None if slots is None else self.model.view_memory(slots.rows(rows[0], rows[-1] + 1).used)
                said = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False, memory=memory)
            new = said[:, inputs["input_ids"].shape[1] :]
            answers += [words.strip() for words in self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)]
        return answers

    def ask(self, questions: Sequence[str], pictures: Sequence[Sequence[Image.Image]]) -> list[str]:
        """Answers to questions, each about its pictures, which come first."""
        prompts = [
            chat_prompt([Turn(role="user", pieces=(*[Mark.IMAGE] * len(shown), asked))])
            for asked, shown in zip(questions, pictures, strict=True)
        ]
        return self.answer(prompts, pictures)


def drawn(scenes: Sequence[Scene], size: int = 96) -> list[Image.Image]:
    """The scenes as pictures that a user could have given."""
    renderer = _renderer(size)
    return [to_pil_image(picture) for rows in _chunks(scenes, 100) for picture in renderer(rows)]


@cache
def _renderer(size: int) -> Renderer:
    return Renderer(size)


def blank(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """The control: as many pictures of the same sizes that show nothing."""
    return [Image.new("RGB", picture.size, (128, 128, 128)) for picture in pictures]


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
