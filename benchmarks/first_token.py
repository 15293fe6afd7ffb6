"""From a picture to the first token of an answer on the starter, against its language model reading as many tokens."""

from __future__ import annotations

from typing import Any, cast

import torch
from PIL import Image

from benchmarks.clock import medians
from flamingo_app import load
from flamingo_app.prompt import Mark, Turn, chat_prompt


@torch.inference_mode()
def run() -> dict[str, Any]:
    """Seconds of both, and their ratio; the picture is opened, resized, encoded and read each time."""
    model, processor = load("starter")
    picture = Image.new("RGB", (640, 480), "white")
    prompt = chat_prompt([Turn(role="user", pieces=(Mark.IMAGE, "what is this?"))])

    def with_picture() -> None:
        model.generate(**processor.prompts([prompt], [[picture]]), max_new_tokens=1, do_sample=False)

    plain = model.language_model.__class__(model.config.text_config).eval()
    ids = processor.prompts([prompt], [[picture]])["input_ids"]

    def words_alone() -> None:
        cast(Any, plain).generate(ids, max_new_tokens=1, do_sample=False, attention_mask=torch.ones_like(ids))

    seconds = medians({"with_picture": with_picture, "words_alone": words_alone})
    return seconds | {"ratio": seconds["with_picture"] / seconds["words_alone"], "threads": torch.get_num_threads()}
