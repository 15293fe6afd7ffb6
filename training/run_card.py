"""The result of a run: model, processor, and a card with its data, figures, backbones and curves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training import lora
from training.journal import lines

if TYPE_CHECKING:
    from training.finetune import Finetuning

WIDTH, HEIGHT, MARGIN = 640, 240, 36
TEMPLATE = """---
library_name: flamingo-app
pipeline_tag: image-text-to-text
---
# {name}

A Flamingo fine-tuned from `{model}`: {trained:,} weights learnt ({parts}), {frozen:,} stayed as they were.

| frozen part | weights | sha256 |
| --- | --- | --- |
{backbones}

## Data

| source | rows | left out | drawn an epoch | counts in the loss |
| --- | --- | --- | --- | --- |
{data}

## Figures

{figures}

{steps} steps of {per_step} samples, AdamW at {rate:g}, seed {seed}.
The loss over the steps, and below it how far the gates are open (tanh):

![loss](loss.svg)
![gates](gates.svg)

All settings are in `settings.json`, every step in `log.jsonl`.
"""


def export(run: Finetuning) -> None:
    """Write everything into the run's folder."""
    settings, model, folder = run.settings, run.model, run.settings.output
    source = Path(model.name_or_path or "")
    if settings.lora:
        lora.save_merged(model, folder)
    model.save_pretrained(folder)
    run.material.processor.save_pretrained(folder)
    if (source / "world.json").is_file():
        shutil.copyfile(source / "world.json", folder / "world.json")
    (folder / "settings.json").write_text(json.dumps(settings.as_json(), indent=1) + "\n")
    figures = {when: found.as_json() for when, found in run.figures.items()}
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    journal = list(lines(folder / "log.jsonl"))
    (folder / "loss.svg").write_text(curves({"loss": [line["loss"] for line in journal]}))
    (folder / "gates.svg").write_text(
        curves({name: [line["gates"][name] for line in journal] for name in (journal[-1]["gates"] if journal else ())})
    )
    (folder / "README.md").write_text(_card(run))


def _card(run: Finetuning) -> str:
    settings, config = run.settings, run.model.config
    rows = [
        (each.path, len(each.source), len(each.source) - len(each.kept), each.drawn, f"{each.loss_weight:g}")
        for each in run.material.ingredients
    ]
    return TEMPLATE.format(
        name=settings.output.name,
        model=settings.model,
        trained=sum(p.numel() for p in run.model.parameters() if p.requires_grad),
        frozen=sum(p.numel() for p in run.model.parameters() if not p.requires_grad),
        parts=", ".join(settings.train) + (f", adapters of rank {settings.lora}" if settings.lora else ""),
        backbones="\n".join(
            f"| {kind} | {getattr(config, f'{kind}_model')} | `{getattr(config, f'{kind}_hash')}` |"
            for kind in ("vision", "text")
        ),
        data="\n".join(f"| {' | '.join(map(str, row))} |" for row in rows),
        figures=_figures(run),
        steps=run.steps,
        per_step=run.draw.per_step,
        rate=settings.learning_rate,
        seed=settings.seed,
    )


def _figures(run: Finetuning) -> str:
    if not run.figures:
        return "Nothing was held out, so nothing is known of how it does on other pictures."
    rows = ["| held out | loss | exact | 95% interval |", "| --- | --- | --- | --- |"]
    for when, found in run.figures.items():
        exact = found.exact
        share = f"{exact.right} of {exact.count} | {exact.low:.1%} to {exact.high:.1%}" if exact else "- | -"
        rows.append(f"| {when} | {found.loss:.3f} | {share} |")
    return "\n".join(rows)


def curves(series: dict[str, Sequence[float]]) -> str:
    """Lines over the steps, as SVG."""
    values = [value for line in series.values() for value in line] or [0.0]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def points(line: Sequence[float]) -> str:
        step = (WIDTH - 2 * MARGIN) / max(1, len(line) - 1)
        return " ".join(
            f"{MARGIN + i * step:.1f},{HEIGHT - MARGIN - (v - low) / span * (HEIGHT - 2 * MARGIN):.1f}"
            for i, v in enumerate(line)
        )

    drawn = "".join(
        f'<polyline fill="none" stroke="hsl({137 * n % 360} 60% 45%)" points="{points(line)}">'
        f"<title>{name}</title></polyline>"
        for n, (name, line) in enumerate(series.items())
    )
    steps = max((len(line) for line in series.values()), default=0)
    marks: list[tuple[float, float, str]] = [
        (2, HEIGHT - MARGIN, f"{low:.3g}"),
        (2, MARGIN, f"{high:.3g}"),
        (WIDTH - 2 * MARGIN, HEIGHT - 10, f"{steps} steps"),
    ]
    texts = "".join(f'<text x="{x}" y="{y}" font-size="11">{text}</text>' for x, y, text in marks)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">{drawn}{texts}</svg>\n'
