"""Probabilities of labels are those of their words, whatever is cached, batched or calibrated."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from PIL import Image

from flamingo_app.errors import ConfigError, PromptError
from flamingo_app.fewshot.classification import Classification, Classifier, classify, decide
from flamingo_app.fewshot.shots import Shot
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import Mark, caption_prompt, encode, spell_answer

COLOURS = ("red", "lime", "blue", "white", "black")
PICTURES = [Image.new("RGB", (12, 9), colour) for colour in COLOURS]
LABELS = ("red", "dark lime", "x")
SHOTS = [Shot(picture, label) for picture, label in zip(PICTURES, LABELS, strict=False)]


@pytest.fixture
def classified(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> Any:
    def run(images: Any = PICTURES, **options: Any) -> list[Classification]:
        return [*classify(model, images, processor=processor, shots=SHOTS, **{"orders": 1} | options)]

    return run


@torch.no_grad()
def plainly(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, shots: list[Shot], picture: Image.Image
) -> list[float]:
    """Log-probabilities of the labels by one uncached pass for each."""
    logs: list[float] = []
    for label in LABELS:
        prompt = (*caption_prompt([shot.text for shot in shots]), *spell_answer(label))
        inputs = processor.prompts([prompt], [[*(shot.image for shot in shots), picture]])
        answer = len(encode(spell_answer(label), processor.tokenizer))
        each = model(**inputs).logits[0, :-1].log_softmax(-1)
        ids = inputs["input_ids"][0, 1:, None]
        logs.append(float(each.gather(-1, ids)[-answer:].sum()))
    return logs


@pytest.mark.parametrize("select", ["random", "similar"])
def test_probabilities_are_those_of_one_uncached_pass(
    classified: Any, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, select: str
) -> None:
    (said,) = classified([PICTURES[3]], select=select)
    classifier = Classifier.of(model, processor, shots=SHOTS, select=select, orders=1)
    order = 0 if select == "random" else None
    asked = classifier.context.ask(processor.image_processor.pixels([PICTURES[3]]), order)
    if select == "random":
        chosen = [SHOTS[i] for i in classifier.context._chosen(0)]
    else:
        texts = [piece.strip() for piece in asked.prompts[0] if not isinstance(piece, Mark)]
        chosen = [next(shot for shot in SHOTS if shot.text == text) for text in texts]
    expected = torch.tensor(plainly(model, processor, chosen, PICTURES[3])).softmax(-1).tolist()
    assert [*said.probabilities] == [*LABELS]
    assert [*said.probabilities.values()] == pytest.approx(expected, rel=1e-3)


def test_batches_change_nothing(classified: Any) -> None:
    whole = classified(orders=2, calibrate=True, batch_size=5)
    assert len({max(each.probabilities.values()) for each in whole}) > 1, "the model must see its pictures"
    for batch_size in (1, 2):
        for one, other in zip(classified(orders=2, calibrate=True, batch_size=batch_size), whole, strict=True):
            assert one.label == other.label
            assert [*one.probabilities.values()] == pytest.approx([*other.probabilities.values()], rel=1e-3)


def test_calibration_leaves_nothing_to_choose_where_a_picture_shows_nothing(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
) -> None:
    classifier = Classifier.of(model, processor, shots=SHOTS, calibrate=True, orders=2)
    prior = classifier._content_free(0)
    assert prior.exp().sum() == pytest.approx(1, rel=1e-4)
    pixels = processor.image_processor.pixels(PICTURES[:1])
    raw = Classifier.of(model, processor, shots=SHOTS, calibrate=False, orders=2)._log_probabilities(pixels, 0)
    expected = (raw - prior).log_softmax(-1)
    torch.testing.assert_close(classifier._log_probabilities(pixels, 0), expected, rtol=1e-3, atol=1e-4)


def test_orders_are_averaged(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> None:
    classifier = Classifier.of(model, processor, shots=SHOTS, calibrate=False, orders=3)
    pixels = processor.image_processor.pixels(PICTURES[:1])
    each = [classifier._log_probabilities(pixels, order) for order in range(3)]
    assert len({tuple(classifier.context._chosen(order)) for order in range(3)}) > 1
    (row,) = classifier(pixels)
    assert [*row.values()] == pytest.approx(torch.stack(each).mean(0).softmax(-1)[0].tolist(), rel=1e-4)


def test_it_abstains_below_the_threshold_alone(classified: Any) -> None:
    said = classified(abstain=0.0)
    sure = sorted(max(each.probabilities.values()) for each in said)
    threshold = math.nextafter(sure[2], 2)
    abstained = classified(abstain=threshold)
    assert [each.label is None for each in abstained] == [max(each.probabilities.values()) < threshold for each in said]
    assert sum(each.label is None for each in abstained) == 3
    assert decide({"a": 0.4, "b": 0.6}, 0.6) == "b"


def test_labels_may_be_named_and_need_no_shots(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
) -> None:
    (said,) = classify(model, PICTURES[:1], processor=processor, labels=["cat", "dog"])
    assert set(said.probabilities) == {"cat", "dog"}
    assert sum(said.probabilities.values()) == pytest.approx(1)


def test_a_picture_that_fails_leaves_the_others_alone(classified: Any) -> None:
    broken, red = classified([b"words", PICTURES[0]])
    assert "none of these" in broken.error
    assert (broken.label, broken.probabilities) == (None, None)
    assert red == classified([PICTURES[0]])[0]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"labels": ["one"]}, ConfigError),
        ({"labels": ["a", "<image>"]}, PromptError),
        ({"labels": ["a", "b"], "abstain": 1.5}, ConfigError),
        ({"labels": ["a", "b" * 400]}, PromptError),
    ],
)
def test_what_cannot_be_is_refused(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, options: dict[str, Any], error: type
) -> None:
    with pytest.raises(error):
        list(classify(model, PICTURES[:1], processor=processor, **options))
