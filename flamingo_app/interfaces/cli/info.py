"""flamingo info: what a model is and knows."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flamingo_app.errors import CheckpointError
from flamingo_app.interfaces.cli.common import load_model

if TYPE_CHECKING:
    from flamingo_app.model.flamingo import FlamingoForConditionalGeneration


def run(options: Namespace) -> int:
    """Load the model and print its description."""
    model, _ = load_model(options.model)
    description = describe(options.model, model)
    print(json.dumps(description, ensure_ascii=False, indent=2) if options.json else "\n".join(lines(description)))
    return 0


def describe(name: str, model: FlamingoForConditionalGeneration) -> dict[str, Any]:
    """What the model is; `world` and `measured` are None where nothing is written about them beside its weights.

    gates are tanh of the learned values: 0 is closed, 1 fully open.
    """
    config, folder = model.config, Path(model.name_or_path or "")
    gates = zip(config.gated_layers, model.gated_blocks, strict=True)
    return {
        "name": name,
        "parameters": {
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "frozen": sum(p.numel() for p in model.parameters() if not p.requires_grad),
        },
        "gates": [
            {"layer": layer, "attention": _gate(block.attn_gate), "feed_forward": _gate(block.ff_gate)}
            for layer, block in gates
        ],
        "backbones": {
            "vision": {"identity": config.vision_model, "sha256": config.vision_hash},
            "text": {"identity": config.text_model, "sha256": config.text_hash},
        },
        "attend": config.attend,
        "positions": config.max_positions,
        "world": _read(folder / "world.json"),
        "measured": _read(folder / "measured.json"),
    }


def _gate(value: Any) -> float:
    from flamingo_app.model.gated_cross_attention import opening

    return round(opening(value), 4)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        raise CheckpointError(
            expected=f"a readable {path.name}", got=f"{path}, which is damaged", remedy="restore it, or delete it"
        ) from None


def lines(description: Mapping[str, Any]) -> Iterator[str]:
    """The description for people."""
    yield str(description["name"])
    yield "  parameters  {trainable:,} that train, {frozen:,} frozen".format(**description["parameters"])
    for kind, backbone in description["backbones"].items():
        yield f"  {kind:10}  {backbone['identity']}  sha256 {str(backbone['sha256'])[:12]}"
    yield f"  attends to  {description['attend'].replace('_', ' ')} picture{'s' * (description['attend'] != 'latest')}"
    yield f"  positions   {description['positions'] or 'no limit'}"
    for gate in description["gates"]:
        yield "  gates       layer {layer}: attention {attention:+.3f}, feed-forward {feed_forward:+.3f}".format(**gate)
    if world := description["world"]:
        for stage in ("trained", "heldout"):
            things = [f"{thing['emoji']} {thing['name']}" for thing in world["objects"] if thing["stage"] == stage]
            yield f"  {stage:10}  {len(things)} objects: {', '.join(things)}"
    for figure, score in _scores(description["measured"]):
        yield f"  measured    {figure}: {100 * score:.1f}%"


def _scores(measured: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every figure with an accuracy, wherever it stands."""
    if isinstance(measured, dict):
        figures = cast("dict[str, Any]", measured)
        if "accuracy" in figures:
            yield name, figures["accuracy"]
        for key, value in figures.items():
            yield from _scores(value, f"{name} {key}".strip())
