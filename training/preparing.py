"""Data and model made ready for a run: opened, looked through, and told what is to learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from transformers.utils import logging

from data.documents import Picture
from data.feature_cache import FeatureCache
from data.formats import Reading, open_source
from data.linter import Findings, lint
from data.mixture import Ingredient, open_mixture
from data.reading import Reader
from flamingo_app import load
from flamingo_app.errors import ConfigError, FlamingoError
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.trainable import train_only
from flamingo_app.processing import FlamingoProcessor
from training import lora
from training.settings import Settings

ENDLESS = 2048  # tokens of a sample where the language model sets no limit


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a run works on.

    Args:
        reader: cuts samples as the model reads them.
        ingredients: the data, without its bad rows.
        findings: what the linter says of each, and of what is held out.
        held_out: samples to measure with, likewise.
    """

    model: FlamingoForConditionalGeneration
    processor: FlamingoProcessor
    reader: Reader
    ingredients: list[Ingredient]
    findings: list[Findings]
    held_out: Ingredient | None


def prepare(settings: Settings) -> Material:
    """Open what the settings name and look through the data.

    Raises:
        FlamingoError: something of it cannot be opened, or does not fit.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    reading = Reading(image_root=settings.image_root, similarity=settings.similarity)
    ingredients = open_mixture(settings.data, reading)
    held_out = _held_out(settings.eval_data, reading, settings.eval_items) if settings.eval_data else None
    model, processor = load(settings.model)
    if model.config.attend == "next":
        raise ConfigError(
            expected="a model whose words look at pictures before them",
            got=f"{settings.model}, whose words look at the next one",
            remedy="import it again with --attend latest",
        )
    _learn(model, settings)
    room = model.config.max_positions or ENDLESS
    reader = Reader(
        processor=processor,
        max_tokens=min(settings.max_tokens or room, room),
        max_images=settings.max_images,
        augment=settings.augment,
        remembers="memory" in settings.train,
    )
    still = replace(reader, augment=False)
    seen: set[bytes] = set()
    looked = [lint(ingredient, still, seen, most=settings.check_rows) for ingredient in ingredients]
    findings = [found for _, found in looked]
    if held_out:
        held_out, found = lint(held_out, still, seen)
        findings.append(found)
    return Material(
        model=model,
        processor=processor,
        reader=reader,
        ingredients=[ingredient for ingredient, _ in looked],
        findings=findings,
        held_out=held_out,
    )


def fill_cache(folder: Path, material: Material, *, write: bool) -> FeatureCache:
    """A feature cache; where this process is to write it, with every picture in it."""
    cache = FeatureCache(folder, material.model, material.processor)
    if write:
        added = cache.add(_pictures(material), material.model, material.processor)
        print(f"feature cache {cache.folder}: {added} pictures encoded, {len(cache.rows)} there")
    return cache


def _pictures(material: Material) -> Iterator[Picture]:
    for ingredient in material.ingredients:
        for number in ingredient.kept.tolist():
            try:
                yield from material.reader.cut(ingredient.source[number]).pictures
            except FlamingoError:  # of a row that nobody has looked at; drawing it says so
                continue


def _held_out(path: str, reading: Reading, items: int) -> Ingredient:
    """The first samples of a source."""
    source = open_source(path, reading, "after --eval-data")
    return Ingredient(path=f"{path} (held out)", source=source, kept=np.arange(min(items, len(source))))


def _learn(model: FlamingoForConditionalGeneration, settings: Settings) -> None:
    """Say what learns; the frozen parts stay in eval mode, without dropout."""
    model.eval()
    train_only(model, settings.train)
    if settings.lora:
        lora.add(model, settings.lora, settings.seed)
    if settings.gradient_checkpointing:
        # transformers 6 will know the first name alone, versions before 5.20 only the second.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        for module in model.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.training = True  # of the layer alone: what is in it keeps its mode
