"""Do my shots matter? Held-out pictures answered with the shots, without, and with shots that something is wrong with.

    with         as they are
    without      no shots at all
    shuffled     their texts change places
    label_only   their texts without pictures
    blank        their pictures show nothing

After Min et al. 2022 and Chen et al. 2023: shots often help by their format alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from random import Random
from typing import Any, Literal

from PIL import Image

from flamingo_app.errors import ShotsError
from flamingo_app.fewshot.captioning import Captioner
from flamingo_app.fewshot.classification import Classifier, likeliest
from flamingo_app.fewshot.decoding import decoded, spare_workers
from flamingo_app.fewshot.intervals import bootstrap, wilson
from flamingo_app.fewshot.labelling import Labeller, outcomes
from flamingo_app.fewshot.shots import Shot
from flamingo_app.images import open_hashed
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor

Kind = Literal["labels", "captions"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Scores of the held-out pictures under one condition.

    Args:
        each: of every picture, 0 to 1: whether the label is right, or how alike the captions' words are.
        low, high: the mean's 95% interval.
    """

    each: tuple[float, ...]
    low: float
    high: float

    @property
    def mean(self) -> float:
        return sum(self.each) / len(self.each)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What shots are worth.

    Args:
        kind: "labels" where every held-out text is one of the shots' texts, else "captions".
        measured: by condition, in the order above.
    """

    kind: Kind
    measured: Mapping[str, Measured]

    def difference(self, condition: str) -> tuple[float, float]:
        """95% interval of how much better the shots as they are do, picture by picture."""
        pairs = zip(self.measured["with"].each, self.measured[condition].each, strict=True)
        return bootstrap([ours - theirs for ours, theirs in pairs])

    @property
    def verdict(self) -> str:
        """In words."""
        scores = " with them, ".join(f"{100 * self.measured[name].mean:.0f}%" for name in ("with", "without"))
        count = len(self.measured["with"].each)
        low, high = self.difference("without")
        if low <= 0 <= high:
            return f"Your shots make no difference that {count} pictures can show: {scores} without."
        if high < 0:
            return f"Your shots harm: {scores} without."
        parts = [f"Your shots matter: {scores} without."]
        parts += [_part(self, *words) for words in PARTS]
        return " ".join(parts)

    def as_json(self) -> dict[str, Any]:
        scores = {
            name: {"score": measured.mean, "low": measured.low, "high": measured.high, "count": len(measured.each)}
            for name, measured in self.measured.items()
        }
        return {"kind": self.kind, "conditions": scores, "verdict": self.verdict}


PARTS = (
    ("shuffled", "Which text goes with which picture matters", "shuffled"),
    ("blank", "Their pictures are looked at", "with blank pictures"),
    ("label_only", "More than their texts is used", "with the texts alone"),
)


def _part(report: Report, condition: str, claim: str, how: str) -> str:
    score = 100 * report.measured[condition].mean
    if report.difference(condition)[0] > 0:
        return f"{claim} ({score:.0f}% {how})."
    return f"It cannot be shown that {claim[0].lower()}{claim[1:]} ({score:.0f}% {how})."


def report(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    shots: Sequence[Shot],
    heldout: Sequence[Shot],
    *,
    prompt: str = "",
    batch_size: int = 8,
    seed: int = 0,
) -> Report:
    """Measure what shots are worth on held-out pictures, whose texts are the right ones.

    Args:
        prompt, batch_size: as those of `caption`.
        seed: of what is shuffled.

    Raises:
        ShotsError: a held-out picture is among the shots.
        PromptError, PictureError, ConfigError: as those of `caption` and `classify`.
    """
    _check_apart(shots, heldout)
    labels = tuple(dict.fromkeys(shot.text.strip() for shot in shots))
    kind: Kind = "labels" if len(labels) > 1 and {shot.text.strip() for shot in heldout} <= {*labels} else "captions"
    measured: dict[str, Measured] = {}
    for name, (shown, pictured) in _conditions(shots, seed).items():
        texts = _answers(model, processor, shown, heldout, kind, labels, prompt, batch_size, pictured)
        measured[name] = _measured(kind, texts, [shot.text.strip() for shot in heldout])
    return Report(kind=kind, measured=measured)


def _check_apart(shots: Sequence[Shot], heldout: Sequence[Shot]) -> None:
    shown = {open_hashed(shot.image)[1] for shot in shots}
    for number, shot in enumerate(heldout, start=1):
        if open_hashed(shot.image)[1] in shown:
            raise ShotsError(
                expected="held-out pictures that are no shots",
                got=f"one of the shots as number {number} of them",
                remedy="take it out",
            )


def _conditions(shots: Sequence[Shot], seed: int) -> dict[str, tuple[Sequence[Shot], bool]]:
    """Shots, and whether their pictures are shown, by condition."""
    texts = Random(seed).sample([shot.text for shot in shots], len(shots))
    gray = Image.new("RGB", (64, 64), (128, 128, 128))
    return {
        "with": (shots, True),
        "without": ((), True),
        "shuffled": ([replace(shot, text=text) for shot, text in zip(shots, texts, strict=True)], True),
        "label_only": (shots, False),
        "blank": ([replace(shot, image=gray) for shot in shots], True),
    }


def _answers(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    shots: Sequence[Shot],
    heldout: Sequence[Shot],
    kind: Kind,
    labels: Sequence[str],
    prompt: str,
    batch_size: int,
    pictured: bool,
) -> Iterator[str]:
    """What the model calls each held-out picture."""
    labeller: Labeller[str]
    if kind == "labels":
        classifier = Classifier.of(
            model, processor, shots=shots, labels=labels, lead_in=prompt, calibrate=True, pictured=pictured
        )
        labeller = lambda pixels: [likeliest(row) for row in classifier(pixels)]  # noqa: E731
    else:
        captioner = Captioner.of(model, processor, shots=shots, lead_in=prompt, pictured=pictured)
        labeller = lambda pixels: [said.text for said in captioner(pixels)]  # noqa: E731
    workers = spare_workers(len(heldout))
    pictures = decoded([shot.image for shot in heldout], processor.image_processor, workers=workers)
    for batch in outcomes(labeller, pictures, batch_size=batch_size, known={}):
        yield from (outcome.label or "" for outcome in batch)


def _measured(kind: Kind, answers: Iterator[str], right: Sequence[str]) -> Measured:
    each = tuple(_score(kind, answer, text) for answer, text in zip(answers, right, strict=True))
    low, high = wilson(int(sum(each)), len(each)) if kind == "labels" else bootstrap(each)
    return Measured(each=each, low=low, high=high)


def _score(kind: Kind, answer: str, right: str) -> float:
    """1 for the right label; for a caption, the share of words that both have, in order."""
    if kind == "labels":
        return float(answer == right)
    return SequenceMatcher(None, answer.casefold().split(), right.casefold().split(), autojunk=False).ratio()
