"""Which of some labels each picture has, and how sure the model is.

weigh       log-probability of every label as the whole answer, after the shots and the picture
calibrate   less what the label gets when the picture shows nothing (Zhao et al. 2021, section 5)
average     over several orders of the shots, since an order favours some labels (Lu et al. 2022)
abstain     where the likeliest label is not likely enough
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from flamingo_app.errors import ConfigError
from flamingo_app.fewshot.completion import weigh
from flamingo_app.fewshot.context import Context
from flamingo_app.fewshot.job import Images, Job, Task
from flamingo_app.fewshot.labelling import Labeller
from flamingo_app.fewshot.records import Record
from flamingo_app.fewshot.retrieval import Select
from flamingo_app.fewshot.shots import Shot
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import encode, refuse_special_tokens, spell_answer

ORDERS = 4
BLANKS = ("black", "gray", "white")
"""Pictures without content."""


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What came of one picture: a label and how likely each is, or an error.

    Args:
        file_name: the picture's path, or the name that it was given; None for one in memory.
        label: the likeliest; None where it is not likely enough.
        probabilities: of every label; they add up to 1.
        error: one line that says why there is none.
    """

    file_name: str | None = None
    label: str | None = None
    probabilities: dict[str, float] | None = None
    error: str | None = None


def classify(
    model: FlamingoForConditionalGeneration,
    images: Images,
    *,
    shots: Sequence[Shot] = (),
    labels: Sequence[str] | None = None,
    processor: FlamingoProcessor | None = None,
    prompt: str = "",
    calibrate: bool = False,
    abstain: float = 0.0,
    orders: int = ORDERS,
    batch_size: int = 8,
    select: Select = "random",
    num_shots: int | None = None,
    seed: int = 0,
    workers: int | None = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    ray: str | None = None,
) -> Iterator[Classification]:
    """Classify pictures one batch after the other, in their order; a picture that fails does not stop the others.

    Args:
        shots: pictures whose texts are their labels.
        labels: None takes those of the shots, in the order in which they first appear.
        images, processor, prompt, batch_size, select, num_shots, seed, workers, out, overwrite, ray: as those of
            `caption`.
        calibrate: take away what a label gets without a picture's help.
        abstain: no label where the likeliest has a lower probability.
        orders: of the shots, to be averaged over; similar shots have one alone, the nearest last.

    Raises:
        ConfigError: fewer than two labels, no probability to abstain below, or as `caption`.
        FlamingoError: as `caption`.
    """
    task = classifications(
        shots=shots,
        labels=labels,
        prompt=prompt,
        calibrate=calibrate,
        abstain=abstain,
        orders=orders,
        select=select,
        num_shots=num_shots,
        seed=seed,
    )
    job = Job.of(task, model, processor, batch_size=batch_size, workers=workers, ray=ray)
    return (Classification(**record) for record in job.label(images, out=out, overwrite=overwrite))


def classifications(
    *,
    shots: Sequence[Shot] = (),
    labels: Sequence[str] | None = None,
    prompt: str = "",
    calibrate: bool = False,
    abstain: float = 0.0,
    orders: int = ORDERS,
    select: Select = "random",
    num_shots: int | None = None,
    seed: int = 0,
) -> Task:
    """One of some labels for each picture; arguments as those of `classify`."""
    check_abstain(abstain)

    def prepare(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> Labeller[Record]:
        classifier = Classifier.of(
            model,
            processor,
            shots=shots,
            labels=labels,
            lead_in=prompt,
            calibrate=calibrate,
            orders=orders,
            select=select,
            num_shots=num_shots,
            seed=seed,
        )
        return lambda pixels: [{"label": decide(each, abstain), "probabilities": each} for each in classifier(pixels)]

    settings = {
        "--label": [*labels] if labels else [],
        "--prompt": prompt,
        "--calibrate": calibrate,
        "--abstain": abstain,
        "--orders": orders,
        "--select": select,
        "--num-shots": num_shots,
        "--seed": seed,
    }
    return Task(fields=("file_name", "label", "probabilities"), shots=shots, settings=settings, prepare=prepare)


def check_abstain(threshold: float) -> None:
    """Raise `ConfigError` for what is no probability."""
    if not 0 <= threshold <= 1:
        raise ConfigError(
            expected="a probability to abstain below, 0 to 1", got=f"{threshold}", remedy="choose one of these"
        )


def likeliest(probabilities: dict[str, float]) -> str:
    """The label with the highest probability, the first of several."""
    return max(probabilities, key=probabilities.__getitem__)


def decide(probabilities: dict[str, float], abstain: float) -> str | None:
    """The likeliest label, unless it is too unlikely."""
    label = likeliest(probabilities)
    return label if probabilities[label] >= abstain else None


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """Classifies batches of pictures."""

    context: Context
    labels: tuple[str, ...]
    calibrate: bool
    orders: int
    _blank: dict[int | None, Tensor] = field(default_factory=dict[int | None, Tensor], init=False)

    @classmethod
    def of(
        cls,
        model: FlamingoForConditionalGeneration,
        processor: FlamingoProcessor,
        *,
        shots: Sequence[Shot],
        labels: Sequence[str] | None = None,
        lead_in: str = "",
        calibrate: bool = False,
        orders: int = ORDERS,
        select: Select = "random",
        num_shots: int | None = None,
        seed: int = 0,
        pictured: bool = True,
    ) -> Classifier:
        """Arguments and errors as those of `classify` and of `Context`."""
        shots = [Shot(shot.image, shot.text.strip()) for shot in shots]
        chosen = tuple(dict.fromkeys(shot.text for shot in shots) if labels is None else labels)
        if len(chosen) < 2:
            raise ConfigError(
                expected="at least two labels", got=", ".join(chosen) or "none", remedy="give shots of each label"
            )
        for label in chosen:
            refuse_special_tokens(label)
        context = Context(
            model=model,
            processor=processor,
            shots=shots,
            lead_in=lead_in,
            select=select,
            num_shots=num_shots,
            room=max(len(encode(spell_answer(label), processor.tokenizer)) for label in chosen),
            seed=seed,
            pictured=pictured,
        )
        return cls(context=context, labels=chosen, calibrate=calibrate, orders=orders)

    def __call__(self, pixels: Float[Tensor, "pictures 3 height width"]) -> list[dict[str, float]]:
        """Probabilities of the labels, for each picture."""
        orders = range(self.orders) if self.context.shots and self.context.select == "random" else (None,)
        each = [self._log_probabilities(pixels, order) for order in orders]
        rows: list[list[float]] = torch.stack(each).mean(dim=0).softmax(dim=-1).tolist()
        return [dict(zip(self.labels, row, strict=True)) for row in rows]

    def _log_probabilities(self, pixels: Tensor, order: int | None) -> Float[Tensor, "pictures labels"]:
        """Of one order of the shots, calibrated if that is wanted."""
        logs = self._weigh(pixels, order)
        return (logs - self._content_free(order) if self.calibrate else logs).log_softmax(dim=-1)

    def _weigh(self, pixels: Tensor, order: int | None) -> Float[Tensor, "pictures labels"]:
        context = self.context
        return weigh(context.model, context.processor, context.ask(pixels, order), self.labels)

    def _content_free(self, order: int | None) -> Float[Tensor, " labels"]:
        """What each label gets for pictures that show nothing."""
        if order not in self._blank:
            blanks = self.context.processor.image_processor.pixels([Image.new("RGB", (64, 64), c) for c in BLANKS])
            self._blank[order] = self._weigh(blanks, order).softmax(dim=-1).mean(dim=0).log()
        return self._blank[order]
