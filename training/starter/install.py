"""Put the trained starter where the package ships it: weights in half precision, the world, and example pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file, save_file
from torchvision.transforms.functional import to_pil_image

from data.picture_book import OBJECTS, Kind, Renderer, objects, random_scene
from flamingo_app.model.backbones import STARTER
from flamingo_app.model.checkpoint import make_processor
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from training.starter.flamingo import PARTS
from training.starter.memory import MEMORY

EXAMPLES: tuple[tuple[Kind, str], ...] = (
    ("one", "white"), ("pair", "yellow"), ("group", "blue"), ("mixed", "green"), ("group", "pink"), ("pair", "purple"),
)  # fmt: skip
EXAMPLE_SIZE, TALK_SIZE = 384, 256  # pixels a side

Page = tuple[Kind, tuple[str, ...], str]
"""What is on a page, and its colour."""

TALKS: tuple[tuple[str, tuple[tuple[Page | str, ...], ...]], ...] = (
    ("What is there?", (
        (("group", ("penguin",), "blue"), "what is this?"),
        ("how many penguins are there?",),
        ("what color is the background?",),
    )),
    ("Which picture?", (
        (("one", ("owl",), "green"), ("one", ("cake",), "white"), ("one", ("train",), "yellow"),
         "which picture had the cake?"),
        ("which picture had the train?",),
    )),
    ("A new name", (
        (("one", ("unicorn",), "green"), "this is a dax."),
        (("one", ("castle",), "yellow"), "this is a wug."),
        (("one", ("unicorn",), "pink"), "what is this called?"),
    )),
    ("Is it there?", (
        (("pair", ("dog", "house"), "white"), "what do you see?"),
        ("is there a dog?",),
        ("is there a cat?",),
    )),
)  # fmt: skip
"""Conversations to click: titles, and messages of pages and words."""


def install(folder: Path) -> None:
    """Copy what the stages left under `folder` into the package; the model is rebuilt from the halved backbones.

    Half precision moves every weight a little, so whatever is measured is measured afterwards, on what is shipped.
    """
    for name in ("vision", "text"):
        shutil.rmtree(STARTER / name, ignore_errors=True)
        shutil.copytree(folder / name, STARTER / name)
        for weights in (STARTER / name).glob("*.safetensors"):
            _halve(weights)
    trained = load_file(folder / "remembering" / "model.safetensors")
    rebuilt = FlamingoForConditionalGeneration.from_backbones(
        vision="starter/vision", text="starter/text", memory=MEMORY, **PARTS
    )
    rebuilt.load_state_dict(trained, strict=False)
    rebuilt.save_pretrained(STARTER)
    make_processor("starter/vision", "starter/text").save_pretrained(STARTER)
    _halve(STARTER / "model.safetensors")
    write_world()
    write_examples()
    write_talks()


def write_world() -> None:
    """`world.json`: every object with its glyph, its name, and whether any training stage saw it."""
    known = [{"emoji": thing.emoji, "name": thing.name, "stage": thing.stage} for thing in OBJECTS]
    (STARTER / "world.json").write_text(
        json.dumps({"objects": known}, ensure_ascii=False, indent=0) + "\n", encoding="utf-8"
    )


def write_examples() -> None:
    """`examples/`: pages that the chat offers to click."""
    (STARTER / "examples").mkdir(parents=True, exist_ok=True)
    random, renderer = Random("examples"), Renderer(EXAMPLE_SIZE)
    for number, (kind, colour) in enumerate(EXAMPLES, 1):
        scene = random_scene(kind, objects("trained"), random, colour=colour)
        to_pil_image(renderer([scene])[0]).save(STARTER / "examples" / f"page-{number}.png", optimize=True)


def write_talks() -> None:
    """`talks/`: conversations that the chat offers to click, with their pages."""
    shutil.rmtree(STARTER / "talks", ignore_errors=True)
    (STARTER / "talks").mkdir()
    random, renderer = Random("talks"), Renderer(TALK_SIZE)
    talks = [
        {"title": title, "messages": [[_part(part, random, renderer) for part in message] for message in messages]}
        for title, messages in TALKS
    ]
    (STARTER / "talks" / "talks.json").write_text(json.dumps(talks, indent=1) + "\n", encoding="utf-8")


def _part(part: Page | str, random: Random, renderer: Renderer) -> dict[str, str]:
    """Words, or a page that is drawn beside the list."""
    if isinstance(part, str):
        return {"words": part}
    kind, names, colour = part
    scene = random_scene(kind, [thing for thing in OBJECTS if thing.name in names], random, colour=colour)
    name = "-".join([*names, colour]) + ".png"
    to_pil_image(renderer([scene])[0]).save(STARTER / "talks" / name, optimize=True)
    return {"picture": name}


def _halve(file: Path) -> None:
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in load_file(file).items()
    }
    finite = all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())
    if not finite:
        raise OverflowError(f"a weight in {file} is too large for half precision")
    save_file(tensors, file, metadata={"format": "pt"})


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    write_world()
    write_examples()
    write_talks()
