"""The last stage: measure what was installed, and write the model card from nothing but those figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data.picture_book import objects
from flamingo_app import load
from training.evaluate import SUITES
from training.starter.install import STARTER
from training.starter.memory import Talks
from training.suites.memory import DISTANCES
from training.suites.plot import POINT
from training.suites.reader import Reader
from training.suites.score import CONTROL_ITEMS, scores

README = Path(__file__).parents[2] / "README.md"
START, END = "<!-- measured:start -->", "<!-- measured:end -->"
ITEMS = {"captions": 1000, "vqa": 1000, "fewshot": 1000, "memory": 500}
TURNS = {
    "named": DISTANCES, "among": (8,), "crowded": (8, 32), "two": (8, 32, 128), "three": (8, 32, 128), "told": (8, 128),
    "shown": (8, 32, 128, 256), "seen": (8, 32, 128, 256), "plain": (8, 128, 256),
}  # fmt: skip
"""How far back the memory is asked for each kind of fact; all kinds at all distances take an hour and a half more."""
SEED = 20_261_121
STAGES = ("tokenizer", "vision", "language", "flamingo", "memory")
BRIEF = {"fewshot": (1, 4), "memory": (1, 8, 32, 128)}  # shots and turns of the README's table; the card has all
TEMPLATE = """---
license: mit
library_name: flamingo-app
pipeline_tag: image-text-to-text
---
# Flamingo App starter

A small vision-language model that knows a picture book: {trained} kinds of things (glyphs of the Noto Color Emoji font,
SIL Open Font License 1.1), one to five on a page, on plain, graded or grained backgrounds of eleven colours. It was
trained to name and count them, to tell the background's colour and where things are, to learn made-up names from shots,
to say so when a picture looks like a photograph, and to remember what turns of a talk told that have left its window;
the figures below say how much of that it has learnt.
It knows nothing else, in words or pictures. {heldout} more things appear in no stage of its training; they are for
measuring what shots teach.

## Parts

| part | parameters | trained on |
| --- | --- | --- |
| image tower: open_clip ModifiedResNet, 96 pixels | {vision:,} | pages and captions, places and names; then frozen |
| language model: GPT-2, 4 layers of 192 | {language:,} | the book's language, soft words; then frozen |
| resampler, and a gated block before every layer | {trainable:,} | captions, dialogues, made-up names; then frozen |
| memory: latents of each turn, and a gated block before every layer | {memory:,} | talks of up to {longest} turns |

{made}

## Measured

`python -m training.evaluate --model starter --seed {seed}`, with {items} (which asks
the memory at more distances than are listed here), on pages that training never drew; 95% intervals (Wilson). A control
takes away what tells the answer: blank pictures in place of the pages, the shots or the query, names shuffled among the
shots, or words in place of all pictures; no memory, an empty one, or another talk's. Controls of `fewshot` and `memory`
are of {controls} items. The things of `fewshot` and those named in `memory` appear in no stage of the training, but
where they must be named (attribute, style, shown); names and labels are made up anew for each question.

What the labels' own words give away no control takes away: how captions are written (style) is learnt from the words of
the shots, and so, mostly, is whether they tell a colour or a thing (attribute); from shuffled numbers it is still seen
that numbers are asked for. With words in place of the pictures it answers nothing, whatever the task: it has learnt to
bind names to what is in pictures, not to words.

| figure | right | of | share | interval |
| --- | --- | --- | --- | --- |
{rows}

Whole captions beside the book's own, one reference each and of the grammar that it was taught, and so not comparable to
leaderboards: {likeness}.

## Limits

Photographs, drawings and objects that are not in its list are outside its world: it will name the nearest thing that it
knows. For photographs load real backbones, for example `flamingo caption photo.jpg --model clip-vit-b32-gpt2` after
training their gates, or import a checkpoint that somebody else trained.
"""


def write(folder: Path) -> None:
    """Measure the starter that is installed, and publish it."""
    publish(measure(Reader(*load("starter"))), folder)


def measure(reader: Reader) -> dict[str, Any]:
    """The figures of the card."""
    asked = {"memory": {"points": TURNS}}
    return {name: SUITES[name](reader, seed=SEED, items=items, **asked.get(name, {})) for name, items in ITEMS.items()}


def publish(results: dict[str, Any], folder: Path) -> None:
    """Write `measured.json` and the card beside the weights, and the figures into the README.

    Args:
        folder: where the stages noted how long they took; a "note" beside that tells where one left its plan.
    """
    model, _ = load("starter")
    kept = {stage: json.loads((folder / f"{stage}.json").read_text()) for stage in STAGES}
    seconds = {stage: note["seconds"] for stage, note in kept.items()}
    notes = [note["note"] for note in kept.values() if "note" in note]
    measured: dict[str, Any] = {
        "seed": SEED, "items": ITEMS, "training_seconds": seconds, "training_notes": notes, "suites": results
    }  # fmt: skip
    (STARTER / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")
    sizes = {
        "vision": sum(p.numel() for p in model.vision_encoder.parameters()),
        "language": sum(p.numel() for p in model.language_model.parameters()),
        "memory": sum(p.numel() for name, p in model.named_parameters() if name.startswith("memory")),
        "trainable": sum(
            p.numel() for name, p in model.named_parameters() if p.requires_grad and not name.startswith("memory")
        ),
    }
    (STARTER / "README.md").write_text(card(measured, sizes))
    README.write_text(with_figures(README.read_text(), measured["suites"]))


def with_figures(readme: str, suites: dict[str, Any]) -> str:
    """The README with the figures between its two marks replaced."""
    before, rest = readme.split(START)
    _, after = rest.split(END)
    table = f"| figure | right | interval | without what tells it |\n| --- | --- | --- | --- |\n{summary(suites)}"
    return f"{before}{START}\n{table}\n{END}{after}"


def card(measured: dict[str, Any], sizes: dict[str, int]) -> str:
    """The model card as Markdown."""
    seconds: dict[str, float] = measured["training_seconds"]
    times = ", ".join(f"{stage} {spent / 60:.0f}" for stage, spent in seconds.items())
    made = f"Made by `make starter` on two CPU cores in {sum(seconds.values()) / 60:.0f} minutes ({times})."
    return TEMPLATE.format(
        trained=len(objects("trained")),
        heldout=len(objects("heldout")),
        made="\n\n".join([made, *measured["training_notes"]]),
        controls=CONTROL_ITEMS,
        likeness=likeness(measured["suites"]["captions"]),
        longest=Talks().longest,
        seed=measured["seed"],
        items=", ".join(f"`--suite {suite} --items {items}`" for suite, items in measured["items"].items()),
        rows=rows(measured["suites"]),
        **sizes,
    )


def summary(suites: dict[str, Any]) -> str:
    """The figures as rows of a short Markdown table: some of each curve, each once, its controls beside it."""
    lines: list[str] = []
    listed = [(suite, name, score) for suite, name, score in scores(suites)]
    for suite, name, score in listed:
        if any(other != name and _is_control(name, other) for kind, other, _ in listed if kind == suite):
            continue
        if (point := POINT.fullmatch(name)) and int(point["place"]) not in BRIEF[suite]:
            continue
        controls = [
            f"{other.removeprefix(f'{name}_').removesuffix('_control').replace('_', ' ')} {control['accuracy']:.0%}"
            for kind, other, control in listed
            if kind == suite and _is_control(other, name)
        ]
        lines.append(
            f"| {suite}: {name.replace('_', ' ')} | {score['accuracy']:.1%} of {score['count']} "
            f"| {score['low']:.1%} to {score['high']:.1%} | {', '.join(controls)} |"
        )
    return "\n".join(lines)


def likeness(captions: dict[str, Any]) -> str:
    """What captions are like beside their references, in words."""
    return "; ".join(
        f"{name.removesuffix('_words').replace('_', ' ')} CIDEr {words['cider']:.2f}, BLEU {words['bleu']:.1f}, "
        f"ROUGE-L {words['rouge_l']:.3f}"
        for name, words in captions.items()
        if "cider" in words
    )


def _is_control(name: str, of: str) -> bool:
    return name.startswith(f"{of}_") and not name.removeprefix(f"{of}_")[0].isdigit()


def rows(suites: dict[str, Any]) -> str:
    """The figures as rows of a Markdown table."""
    return "\n".join(
        f"| {suite}: {name.replace('_', ' ')} | {score['right']} | {score['count']} | {score['accuracy']:.1%} "
        f"| {score['low']:.1%} to {score['high']:.1%} |"
        for suite, name, score in scores(suites)
    )
