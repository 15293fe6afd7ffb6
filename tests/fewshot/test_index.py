"""An embedding is computed once for a content, and what is damaged is made again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from flamingo_app.fewshot.captioning import caption
from flamingo_app.fewshot.index import Index, index_folder
from flamingo_app.fewshot.shots import Shot
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor

PICTURES = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue", "red")]


def test_each_content_is_embedded_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def embed(pictures: list[Image.Image]) -> torch.Tensor:
        asked.append(len(pictures))
        return torch.tensor([[float(value) for value in picture.getpixel((0, 0))] for picture in pictures])

    path = tmp_path / "deep" / "index.safetensors"
    index = Index(path)
    expected = torch.tensor([[255.0, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 0]])
    assert torch.equal(index.embeddings(PICTURES[:2], embed), expected[:2])
    assert torch.equal(Index(path).embeddings(PICTURES, embed), expected)
    assert torch.equal(index.embeddings(PICTURES, embed), expected)
    assert asked == [2, 1]
    path.write_bytes(b"words")
    assert torch.equal(index.embeddings(PICTURES, embed), expected)
    assert asked == [2, 1, 3]
    assert [path.name for path in path.parent.iterdir()] == ["index.safetensors"]


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    index = Index(tmp_path / "file" / "index.safetensors")
    assert index.embeddings(PICTURES[:1], lambda part: torch.ones(len(part), 2)).tolist() == [[1, 1]]


def test_similar_shots_are_the_same_from_the_index(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(model.config, "vision_hash", "a tower's")
    shots = [Shot(picture, f"number {number}.") for number, picture in enumerate(PICTURES[:3])]

    def run() -> list[str | None]:
        said = caption(
            model, PICTURES, processor=processor, shots=shots, select="similar", num_shots=1, max_new_tokens=5
        )
        return [each.text for each in said]

    first = run()
    assert index_folder().is_relative_to(tmp_path)
    (file,) = index_folder().iterdir()
    written = file.stat().st_mtime_ns
    assert run() == first
    assert file.stat().st_mtime_ns == written
