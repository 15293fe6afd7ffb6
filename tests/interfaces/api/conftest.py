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
from PIL import Image

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
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    with served_here(model_folder, tmp_path_factory.mktemp("api")) as address:
        yield address


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="nobody asks", max_retries=0) as made:
        yield made
