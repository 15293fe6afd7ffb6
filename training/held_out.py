"""Held-out samples: their loss, and how often the model says just what stands there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import send_to_device

from data.documents import Sample
from data.mixture import Ingredient
from data.reading import Cut, Reader
from flamingo_app.errors import FlamingoError
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.prompt import Mark, Prompt, encode
from training.objective import row_losses
from training.remembering import remembered_losses
from training.suites.reader import Reader as Answerer
from training.suites.score import Score

SHOWN = 3
ROOM = 8  # tokens an answer may be longer than what is wanted


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one model on held-out samples.

    Args:
        loss: mean of the tokens that count.
        exact: greedy answers that are the wanted words, all of them; None where samples are no pairs.
        said: (name, wanted, said) of the first ones.
    """

    loss: float
    exact: Score | None
    said: tuple[tuple[str, str, str], ...]

    def as_json(self) -> dict[str, Any]:
        return {"loss": self.loss, "exact": self.exact.as_json() if self.exact else None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Figures:
        """The inverse of `as_json`; what was said is not kept."""
        exact = values["exact"]
        return cls(loss=values["loss"], exact=Score(**exact) if exact else None, said=())

    def lines(self, when: str) -> Iterator[str]:
        """The figures for people."""
        share = ""
        if self.exact:
            share = f", {self.exact.right} of {self.exact.count} exact ({self.exact.accuracy:.1%})"
        yield f"held out, {when}: loss {self.loss:.3f}{share}"
        for name, wanted, said in self.said:
            yield f"  {name}\n    wanted: {wanted}\n    says:   {said}"


def measure(model: FlamingoForConditionalGeneration, reader: Reader, held_out: Ingredient) -> Figures:
    """Loss and exact answers of samples, their pictures whole; what cannot be read any more is passed over.

    The model is left as it was.
    """
    reader = replace(reader, augment=False)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    samples = list(_good(held_out, reader))
    loss = _loss(model, reader, [cut for _, cut in samples])
    pairs = [sample for sample, _ in samples if len(sample.pictures) == 1]
    asked = [_split(sample) for sample in pairs]
    answerer = Answerer(model, reader.processor, batch_size=16)
    wanted = [_words(reader, words) for _, words in asked]
    longest = max((len(encode((text,), reader.processor.tokenizer)) for text in wanted), default=0)
    said = answerer.answer([prompt for prompt, _ in asked], [s.pictures for s in pairs], tokens=longest + ROOM)
    for module, mode in modes.items():
        module.training = mode
    return Figures(
        loss=loss,
        exact=Score.of(a == b for a, b in zip(wanted, said, strict=True)) if pairs else None,
        said=tuple((s.name, a, b) for s, a, b in list(zip(pairs, wanted, said, strict=True))[:SHOWN]),
    )


def _good(held_out: Ingredient, reader: Reader) -> Iterator[tuple[Sample, Cut]]:
    for number in held_out.kept.tolist():
        try:
            cut = reader.cut(sample := held_out.source[number])
            reader.pixels(cut, "")
        except FlamingoError:
            continue
        yield sample, cut


@torch.inference_mode()
def _loss(model: FlamingoForConditionalGeneration, reader: Reader, cuts: Sequence[Cut]) -> float:
    total, labels = 0.0, 0
    for start in range(0, len(cuts), 8):
        rows = cuts[start : start + 8]
        batch = reader.batch(rows, [reader.pixels(cut, "") for cut in rows], "pixel_values")
        losses = remembered_losses if reader.remembers else row_losses
        total += losses(model, send_to_device(batch, model.device)).sum().item()
        labels += sum(cut.num_labels for cut in rows)
    return total / max(1, labels)


def _split(sample: Sample) -> tuple[Prompt, Prompt]:
    """A pair's prompt up to its picture, or up to the last words of its answer's asker, and the words that follow."""
    counts = [weight > 0 for _, weight in sample.pieces]
    first = counts.index(True)
    last = next((n for n in range(first, len(counts)) if sample.pieces[n][0] is Mark.END_OF_CHUNK), len(counts))
    pieces = [piece for piece, _ in sample.pieces]
    return tuple(pieces[:first]), tuple(pieces[first:last])


def _words(reader: Reader, words: Prompt) -> str:
    """Words as the model would say them: its tokenizer may not know capitals."""
    tokenizer = reader.processor.tokenizer
    return tokenizer.decode(encode(words, tokenizer), skip_special_tokens=True).strip()
