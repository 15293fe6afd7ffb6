"""What becomes of a run's folder: it is chatted with, and uploaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from flamingo_app import load
from tests.interfaces.api.conftest import user
from tests.interfaces.serving import ROOT, served
from tests.training import runs
from tests.training.hub_stand_in import TOKEN, Hub, hub


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with adapters, so that it has a language model of its own."""
    place = tmp_path_factory.mktemp("result")
    model, data = runs.tiny_model(place), runs.image_folder(place / "data", 8)
    made = [*("--data", str(data), "--model", str(model), "--output", str(place / "mine"), "--lora", "2")]
    runs.run([*made, "--track", "none", "--steps", "2", "--batch-size", "4"], place / "log")
    return place / "mine"


def test_it_opens_in_the_chat_and_answers_over_http(run: Path, tmp_path: Path) -> None:
    """The folder is named as a user names it, from where the chat is started."""
    with served(Path(os.path.relpath(run, ROOT)), tmp_path / "kept") as server:
        with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none") as client:
            (model,) = client.models.list()
            answer = client.chat.completions.create(model=model.id, messages=[user(1, "what is this ?")], max_tokens=4)
        assert answer.choices[0].message.content is not None
        assert answer.usage is not None
        assert answer.usage.prompt_tokens > 4


@pytest.fixture
def running() -> Iterator[Hub]:
    with hub() as here:
        yield here


def push(run: Path, here: Hub, token: str) -> subprocess.CompletedProcess[str]:
    """The last act of a run, in a process that knows the hub by its environment."""
    command = "import sys; from pathlib import Path; from training.hub import push; push(Path(sys.argv[1]), 'me/mine')"
    known = {"HF_ENDPOINT": here.address, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    return subprocess.run(
        [sys.executable, "-c", command.replace("'me/mine'", "'me/mine', dry_run=False"), str(run)],
        cwd=ROOT,
        env=os.environ | known,
        capture_output=True,
        text=True,
    )


def test_it_is_uploaded_and_what_lies_there_is_the_model(run: Path, tmp_path: Path, running: Hub) -> None:
    done = push(run, running, TOKEN)
    assert done.returncode == 0, done.stderr
    files = running.repositories["me/mine"]
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "log.jsonl"} <= files.keys()
    assert any(name.startswith("text/") for name in files)
    assert not any("checkpoint" in name for name in files)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    here, there = (load(folder)[0].state_dict() for folder in (run, tmp_path))
    assert here.keys() == there.keys()
    assert all(here[name].equal(there[name]) for name in here)


def test_a_hub_that_does_not_know_the_user_is_told_in_one_line(run: Path, running: Hub) -> None:
    done = push(run, running, "hf_another")
    assert done.returncode == 1
    assert "TrainingError: expected the hub to take me/mine" in done.stderr.splitlines()[-1]
    assert not running.repositories
