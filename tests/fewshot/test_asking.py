"""An answer is what the chat would say first."""

from __future__ import annotations

import pytest
from PIL import Image

from flamingo_app.errors import PictureError, PromptError
from flamingo_app.fewshot.asking import ask
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor

PICTURES = [Image.new("RGB", (12, 9), colour) for colour in ("red", "lime")]


def test_pictures_come_first_then_the_question(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
) -> None:
    chat = [{"role": "user", "content": [{"type": "image", "image": each} for each in PICTURES]}]
    chat[0]["content"].append({"type": "text", "text": "what?"})
    inputs = processor.apply_chat_template(chat, tokenize=True, add_generation_prompt=True)
    said = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    expected = processor.tokenizer.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert ask(model, processor, PICTURES, " what? ", max_new_tokens=5) == expected


def test_a_picture_may_stand_alone(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> None:
    alone, listed = (ask(model, processor, given, "what?", max_new_tokens=5) for given in (PICTURES[0], PICTURES[:1]))
    assert alone == listed


@pytest.mark.parametrize("question", ["", " \n", "what is <image>?", "x" * 400])
def test_bad_questions_are_refused(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, question: str
) -> None:
    with pytest.raises(PromptError):
        ask(model, processor, PICTURES, question)


def test_bad_pictures_are_refused(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> None:
    with pytest.raises(PictureError):
        ask(model, processor, [b"words"], "what?")
