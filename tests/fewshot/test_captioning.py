"""A caption for each picture, in order, whatever happens to the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flamingo_app.errors import ConfigError, PromptError
from flamingo_app.fewshot.captioning import Caption, caption
from flamingo_app.fewshot.shots import Shot
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import caption_prompt
from tests import tiny
from tests.fewshot.conftest import eager

COLOURS = ("red", "lime", "blue", "white", "black")
PICTURES = [Image.new("RGB", (12, 9), colour) for colour in COLOURS]
SHOTS = [Shot(picture, f"a {colour} one.") for picture, colour in zip(PICTURES, COLOURS, strict=True)]


@pytest.fixture
def captions(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> Any:
    def run(images: Any, **options: Any) -> list[Caption]:
        return [*caption(model, images, processor=processor, max_new_tokens=5, **options)]

    return run


def assert_close(ours: list[Caption], theirs: list[Caption]) -> None:
    assert [each.text for each in ours] == [each.text for each in theirs]
    assert [each.score for each in ours] == [pytest.approx(each.score, rel=1e-4) for each in theirs]


def expected(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, shots: list[int], picture: Image.Image
) -> str:
    """The caption by the plain way: every picture as pixels, one prompt, `generate`."""
    prompt = caption_prompt([SHOTS[shot].text for shot in shots])
    inputs = processor.prompts([prompt], [[*(PICTURES[shot] for shot in shots), picture]])
    said = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    return processor.tokenizer.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_batches_change_nothing(captions: Any) -> None:
    whole = captions(PICTURES)
    assert len({each.text for each in whole}) > 1, "the model must see its pictures for this test to mean anything"
    for batch_size in (1, 2, 7):
        assert_close(captions(PICTURES, batch_size=batch_size), whole)


def test_encoding_shots_once_changes_nothing(
    captions: Any, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
) -> None:
    texts = [each.text for each in captions(PICTURES, shots=SHOTS[:2])]
    assert texts == [expected(model, processor, [0, 1], picture) for picture in PICTURES]


@pytest.mark.parametrize("select", ["random", "similar"])
def test_shots_are_encoded_in_their_places_where_the_model_asks_for_that(
    processor: FlamingoProcessor, select: Any
) -> None:
    model = eager(tiny.model(gates=1.0, resampler=tiny.SMALL_PARTS["resampler"] | {"max_images": 3}))
    said = [*caption(model, PICTURES[3:], processor=processor, max_new_tokens=5, shots=SHOTS[:2], select=select)]
    if select == "random":
        assert [each.text for each in said] == [expected(model, processor, [0, 1], each) for each in PICTURES[3:]]
        said = [*caption(model, PICTURES[3:], processor=processor, max_new_tokens=5, shots=SHOTS[:3])]
        assert [each.text for each in said] == [expected(model, processor, [0, 1, 2], each) for each in PICTURES[3:]]


def test_similar_shots_stand_nearest_last(
    captions: Any, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
) -> None:
    (said,) = captions([PICTURES[2]], shots=SHOTS, select="similar", num_shots=1)
    assert said.text == expected(model, processor, [2], PICTURES[2]), "a picture is most similar to itself"


def test_as_many_shots_as_fit_are_shown(captions: Any) -> None:
    many = [Shot(PICTURES[0], "a long text about a colour. " * 2)] * 20
    assert captions(PICTURES[:1], shots=many)[0].error is None
    with pytest.raises(PromptError, match="at most 320 tokens"):
        captions(PICTURES[:1], shots=many, num_shots=20)
    with pytest.raises(PromptError, match="at most 320 tokens"):
        captions(PICTURES[:1], shots=[Shot(PICTURES[0], "x" * 400)])


def test_a_picture_that_fails_leaves_the_others_alone(captions: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("words")
    images = [PICTURES[0], tmp_path / "none.png", PICTURES[1], tmp_path / "notes.png"]
    for batch_size in (1, 2, 4):
        red, missing, lime, notes = captions(images, batch_size=batch_size)
        assert "missing" in missing.error
        assert "none of these" in notes.error
        assert missing.text is None
        assert missing.score is None
        assert_close([red, lime], captions(PICTURES[:2]))


def test_pictures_are_taken_one_batch_at_a_time(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
) -> None:
    taken: list[Image.Image] = []

    def images() -> Any:
        for picture in PICTURES:
            taken.append(picture)
            yield picture

    next(caption(model, images(), processor=processor, batch_size=2, max_new_tokens=1))
    assert len(taken) == 2


def test_no_pictures_no_captions(captions: Any) -> None:
    assert captions([]) == []


@pytest.mark.parametrize("options", [{"prompt": "<image>"}, {"shots": [Shot(PICTURES[0], "<|endofchunk|>")]}])
def test_typed_special_tokens_are_refused_at_once(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, options: dict[str, Any]
) -> None:
    with pytest.raises(PromptError, match="plain words"):
        caption(model, PICTURES, processor=processor, **options)


def test_unknown_ways_of_choosing_are_refused(model: FlamingoForConditionalGeneration) -> None:
    with pytest.raises((ConfigError, TypeError)):
        caption(model, PICTURES, select="nearest")  # type: ignore[arg-type]


def test_the_processor_beside_the_model_is_found(tmp_path: Path, processor: FlamingoProcessor) -> None:
    model = tiny.from_backbones(tmp_path)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    loaded = type(model).from_pretrained(tmp_path / "saved")
    with_it = [*caption(model, PICTURES[:2], processor=processor, max_new_tokens=3)]
    assert_close([*caption(loaded, PICTURES[:2], max_new_tokens=3)], with_it)
