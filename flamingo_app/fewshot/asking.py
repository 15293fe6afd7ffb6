"""One answer about some pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from flamingo_app.errors import PromptError
from flamingo_app.fewshot.completion import Asked, complete
from flamingo_app.images import Source, several
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import Mark, Turn, chat_prompt, refuse_special_tokens


def ask(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    images: Source | Sequence[Source],
    question: str,
    *,
    max_new_tokens: int = 64,
) -> str:
    """The likeliest answer to a question about at least one picture, as the first turn of a chat; pictures come first.

    Raises:
        PromptError: for a question that is empty, too long, or spells a special token.
        PictureError: for a picture that cannot be opened.
    """
    if not question.strip():
        raise PromptError(expected="a question", got="no words", remedy="write what you want to know")
    refuse_special_tokens(question)
    pictures = [*several(images)]
    pixels = processor.image_processor.pixels(pictures).to(model.device)
    with torch.inference_mode():
        latents = model.encode_images(pixels[None, :, None])
    prompt = chat_prompt([Turn(role="user", pieces=(*[Mark.IMAGE] * len(pictures), question))])
    asked = Asked(prompts=[prompt], latents=list(latents))
    (answer,) = complete(model, processor, asked, max_new_tokens=max_new_tokens)
    return answer.text
