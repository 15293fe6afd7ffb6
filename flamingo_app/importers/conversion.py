"""From a peer's checkpoint to a folder that `flamingo_app.load` opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flamingo_app.config import FlamingoConfig
from flamingo_app.errors import CheckpointError
from flamingo_app.importers import flamingo_mini, flamingo_pytorch, idefics, open_flamingo, otter
from flamingo_app.importers.clip_vision import save_tower
from flamingo_app.importers.language_model import convert_text, save_text
from flamingo_app.importers.peer import Options, Peer
from flamingo_app.importers.report import Report
from flamingo_app.importers.weights import Weights, open_weights
from flamingo_app.model.backbones import LOCAL, beside, fingerprint, open_text
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.trainable import is_trainable
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor


def import_checkpoint(source: Path, out: Path, options: Options) -> Report:
    """Read a peer's checkpoint and write it as ours; all of it is checked before anything is written.

    The folder names its backbones where they are published; those that the checkpoint holds or changes lie in it.

    Raises:
        CheckpointError: the checkpoint or backbone is damaged, of an unknown kind, or options leave something out.
        ModelNotFoundError: a backbone that it needs cannot be found.
    """
    if out.exists() and any(out.iterdir()):
        raise CheckpointError(expected="--out, a folder that is new or empty", got=str(out), remedy="choose another")
    weights = open_weights(source)
    peer = read_peer(weights, source if source.is_dir() else source.parent, options)
    if peer.text_model is None or peer.text_config.vocab_size < peer.tokens.first:
        peer.text_config.vocab_size = peer.tokens.first
    fields: dict[str, Any] = peer.fields | peer.tokens.fields()
    with torch.device("meta"):
        config = FlamingoConfig(text_config=peer.text_config, vision_config=peer.vision.config, **fields)
        model = FlamingoForConditionalGeneration(config)

    parts = {
        name: weights.take(peer.parts(name), meta.shape)
        for name, meta in model.state_dict().items()
        if is_trainable(name) and not name.startswith("added_tokens.")
    }
    _check_tower(peer, model)
    text = convert_text(peer, weights, model)
    parts |= {f"added_tokens.{name}": rows for name, rows in text.added.items()}

    out.mkdir(parents=True, exist_ok=True)
    config.text_model = peer.text_model and _absolute(peer.text_model)
    if text.changed:
        config.text_model = "./text"
        save_text(text.state, model.language_model.config, out / "text")
    config.vision_model = peer.vision.identity
    if not peer.vision.identity:
        config.vision_model = f"{LOCAL}./vision"
        save_tower(peer.vision, peer.preprocessing, out / "vision")
    missing = text.missing
    del text
    config.text_hash = fingerprint(open_text(beside(str(config.text_model), str(out))).state)
    config.vision_hash = fingerprint(peer.vision.state)
    _save(model, parts, peer, out)
    return Report.of(peer, weights, missing, config, out)


def read_peer(weights: Weights, folder: Path, options: Options) -> Peer:
    """Tell the family from the names of the weights, and read it.

    Raises:
        CheckpointError: nobody here knows such names.
    """
    for family in (otter, flamingo_mini, idefics, flamingo_pytorch, open_flamingo):
        if family.recognises(weights):
            return family.read(weights, folder, options)
    raise CheckpointError(
        expected="a checkpoint of OpenFlamingo, Otter, Idefics, flamingo-mini or flamingo-pytorch",
        got=f"{weights.file}, whose first weight is {next(iter(weights))}",
        remedy="import one of these, or build a new model with from_backbones",
    )


def _check_tower(peer: Peer, model: FlamingoForConditionalGeneration) -> None:
    """Raise `CheckpointError` where the image tower that the user named lacks a weight, or has it in another shape."""
    tower = Weights(peer.vision.identity, {f"visual.{name}": tensor for name, tensor in peer.vision.state.items()})
    for name, meta in model.vision_encoder.tower.state_dict().items():
        tower.take([f"visual.{name}"], meta.shape)


def _save(model: FlamingoForConditionalGeneration, parts: dict[str, Tensor], peer: Peer, out: Path) -> None:
    model.save_pretrained(out, state_dict=parts)
    pictures: Any = FlamingoImageProcessor(**peer.preprocessing)
    if peer.tokens.tokenizer is None:
        pictures.save_pretrained(out)
    else:
        FlamingoProcessor(pictures, peer.tokens.tokenizer).save_pretrained(out)


def _absolute(identity: str) -> str:
    """A folder's name that holds wherever it is read."""
    return str(Path(identity).resolve()) if Path(identity).is_dir() else identity
