"""What this model is and knows, in the page's words."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GREETING = "Show me a picture, and ask me about it."
INVITATION = "Write, and put pictures anywhere between your words: drop, paste or + Picture"
REAL_WEIGHTS = (
    "Real weights are loaded with <code>make chat MODEL=clip-vit-b32-gpt2</code> or a folder of your own; "
    "a model made of ready backbones sees nothing until its gates are trained."
)
UNTRAINED = "<p>Its gates are closed: it is a language model that sees no picture until they are trained.</p>"


def header(name: str) -> str:
    """The title, and the model's name beside it."""
    flamingo = (HERE / "flamingo.svg").read_text(encoding="utf-8")
    model = f'<span class="model">{escape(Path(name).name)}</span>'
    return f'<header class="title">{flamingo}<h1>Flamingo</h1>{model}</header>'


def about(description: dict[str, Any]) -> str:
    """What `flamingo info` tells of a model, as HTML."""
    made_of = (escape(part["identity"] or "weights of its own") for part in description["backbones"].values())
    sections = ["<p>It sees with <b>{}</b> and speaks with <b>{}</b>.</p>".format(*made_of)]
    if not any(gate["attention"] or gate["feed_forward"] for gate in description["gates"]):
        sections.append(UNTRAINED)
    if world := description["world"]:
        sections.append(_world(world["objects"]))
    if measured := description["measured"]:
        sections.append(_measured(measured["suites"]))
    return "".join(sections)


def gates(description: dict[str, Any]) -> str:
    """How far the gates of each layer are open, as HTML."""
    rows = [
        f"<tr><th>layer {gate['layer']}</th>{_gate('attention', gate)}{_gate('feed-forward', gate)}</tr>"
        for gate in description["gates"]
    ]
    return f"<table class='gates'>{''.join(rows)}</table>"


def _gate(name: str, gate: dict[str, Any]) -> str:
    value = gate[name.replace("-", "_")]
    label = f"{name} of layer {gate['layer']}"
    return f"<td>{name} {value:+.2f} <meter min='0' max='1' value='{abs(value):.2f}' aria-label='{label}'></meter></td>"


def _world(objects: list[dict[str, str]]) -> str:
    trained = [thing for thing in objects if thing["stage"] == "trained"]
    things = "".join(f"<span title='{escape(thing['name'])}'>{escape(thing['emoji'])}</span>" for thing in trained)
    return (
        f"<p>It knows picture-book scenes with these {len(trained)} things, their colours, number and places, and was "
        f"trained from nothing on such pictures alone: a photograph means nothing to it. "
        f"Ask what there is, how many, on which colour, or what is left, right, above or below. {REAL_WEIGHTS}</p>"
        f"<p class='world'>{things}</p>"
    )


def _measured(suites: dict[str, dict[str, dict[str, Any]]]) -> str:
    rows = [
        f"<tr><td>{escape(suite)}: {escape(name.replace('_', ' '))}</td><td>{figure['accuracy']:.1%}</td></tr>"
        for suite, figures in suites.items()
        for name, figure in figures.items()
        if "accuracy" in figure
    ]
    return f"<table><tr><th>measured on new pictures</th><th>right</th></tr>{''.join(rows)}</table>"
