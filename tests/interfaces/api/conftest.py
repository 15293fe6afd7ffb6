"""A real server on a tiny random model, for programs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import openai
import pytest
import torch
from PIL import Image

from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor
from tests import tiny
from tests.interfaces.serving import served_here


def data_url(seed: int) -> str:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (8, 8), Random(seed).randbytes(8 * 8 * 3)).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def user(*parts: str | int) -> dict[str, Any]:
    """A message; a number is the picture of that seed."""
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": data_url(part)}}
        for part in parts
    ]
    return {"role": "user", "content": content}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose pictures are loud."""
    folder = tmp_path_factory.mktemp("api-model")
    model = tiny.from_backbones(folder / "backbones")
    tiny.set_gates(model, 2.0)
    for parameter in (*model.resampler.parameters(), *model.gated_blocks.parameters()):
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder / "tiny")
    FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer()).save_pretrained(folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="session")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    with served_here(model_folder, tmp_path_factory.mktemp("api")) as address:
        yield address


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="nobody asks", max_retries=0) as made:
        yield made
