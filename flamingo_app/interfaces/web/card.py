"""What this model is and knows, in the page's words."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from flamingo_app.model.flamingo import FlamingoForConditionalGeneration

HERE = Path(__file__).parent
GREETING = "Show me a picture, and ask me about it."
INVITATION = "Write, and put pictures anywhere between your words: drop, paste or + Picture"
REAL_WEIGHTS = "For photographs load real weights: <code>make chat MODEL=clip-vit-b32-gpt2</code>"


def header(name: str) -> str:
    """The title, and the model's name beside it."""
    flamingo = (HERE / "flamingo.svg").read_text(encoding="utf-8")
    model = f'<span class="model">{escape(Path(name).name)}</span>'
    return f'<header class="title">{flamingo}<h1>Flamingo</h1>{model}</header>'


def about(model: FlamingoForConditionalGeneration) -> str:
    """What the model is made of, what its world holds, and how well it does, as HTML."""
    folder = Path(model.name_or_path)
    vision, text = (
        escape(part or "weights of its own") for part in (model.config.vision_model, model.config.text_model)
    )
    made_of = f"<p>It sees with <b>{vision}</b> and speaks with <b>{text}</b>.</p>"
    world, measured = _read(folder / "world.json"), _read(folder / "measured.json")
    return made_of + (_world(world) if world else "") + (_measured(measured) if measured else "")


def _world(world: dict[str, Any]) -> str:
    trained = [thing for thing in world["objects"] if thing["stage"] == "trained"]
    things = "".join(f"<span title='{escape(thing['name'])}'>{escape(thing['emoji'])}</span>" for thing in trained)
    return (
        f"<p>It knows picture-book scenes with these {len(trained)} things, their colours, number and places. "
        f"It was trained from nothing on such pictures alone: a photograph means nothing to it. {REAL_WEIGHTS}</p>"
        f"<p class='world'>{things}</p>"
    )


def _measured(measured: dict[str, Any]) -> str:
    return f"<pre>{escape(json.dumps(measured, indent=1))}</pre>"


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
