"""One tiny model for all tests of this folder: it has learnt nothing, and says what its pictures make it say."""

from __future__ import annotations

import pytest
import torch

from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor
from tests import tiny


@pytest.fixture(scope="session")
def model() -> FlamingoForConditionalGeneration:
    return eager(tiny.model(gates=1.0))


@torch.no_grad()
def eager(model: FlamingoForConditionalGeneration) -> FlamingoForConditionalGeneration:
    """The model with its parts far from their small beginnings, so that other pictures make other words."""
    for name, parameter in model.named_parameters():
        if name.startswith(("resampler", "gated_blocks")) and parameter.ndim > 1:
            parameter.mul_(20)
    return model


@pytest.fixture(scope="session")
def processor() -> FlamingoProcessor:
    return FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer())
