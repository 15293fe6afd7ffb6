"""The same records from a cluster of two machines, gone on with after a kill."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import pytest
from PIL import Image

from flamingo_app.fewshot.on_ray import Cluster
from flamingo_app.processing import FlamingoImageProcessor
from tests import tiny
from tests.interfaces.conftest import Flamingo
from tests.interfaces.test_cli_command import COMMAND, run_command
from tests.interfaces.test_cli_resume import many, records  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # of its own fields


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Two nodes on this machine, as Ray tests itself; returns the address."""
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_worker_niceness": "0"}
    node = {"object_store_memory": 128 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False} | node)
    nodes.add_node(num_cpus=1, **node)
    nodes.wait_for_nodes()
    yield nodes.address
    nodes.shutdown()


def assert_same(ours: Path, theirs: Path) -> None:
    """Records of other batches: other roundings, nothing else."""
    assert [record["file_name"] for record in records(ours)] == [record["file_name"] for record in records(theirs)]
    for one, other in zip(records(ours), records(theirs), strict=True):
        assert one.get("error") == other.get("error")
        assert one["text"] == other["text"]
        assert one["score"] == (None if other["score"] is None else pytest.approx(other["score"], rel=1e-3))


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_cluster_writes_the_same_records(many: Path, saved: Path, flamingo: Flamingo, cluster: str) -> None:  # noqa: F811
    local = ["caption", "many", "--model", "MODEL", "--shots", "shots.jsonl", "--batch-size", "2", "--out"]
    assert flamingo(*local, "local.jsonl").status == 1
    given = [str(saved) if argument == "MODEL" else argument for argument in local]
    with Popen([COMMAND, *given, "out.jsonl", "--ray", cluster], cwd=many, stderr=DEVNULL) as running:
        while not (many / "out.jsonl").exists() or not (many / "out.jsonl").stat().st_size:
            assert running.poll() is None
            time.sleep(0.05)
        running.kill()
    before = len(records(many / "out.jsonl"))
    ran = run_command(*given, "out.jsonl", "--ray", cluster, "--json", cwd=many, timeout=600)
    assert ran.returncode == 1, ran.stderr
    assert 0 < json.loads(ran.stdout)["written_before"] <= before
    assert_same(many / "out.jsonl", many / "local.jsonl")
    again = run_command(*given, "out.jsonl", "--ray", cluster, "--json", cwd=many, timeout=600)
    assert json.loads(again.stdout)["written_before"] == 40


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_one_machine_is_a_cluster_too(many: Path, saved: Path, flamingo: Flamingo) -> None:  # noqa: F811
    """Started for the job; names that are no UTF-8, and pictures in shards."""
    Image.new("RGB", (3, 4), "navy").save(many / "many" / os.fsdecode(b"caf\xe9.png"))
    with tarfile.open(many / "shard.tar", "w") as shard:
        for number in range(4):
            shard.add(many / "many" / f"{number:02}.png", f"{number}.png")
    local = ["caption", "shard.tar", "many", "--model", "MODEL", "--batch-size", "4", "--out"]
    assert flamingo(*local, "local.jsonl").status == 1
    given = [str(saved) if argument == "MODEL" else argument for argument in local]
    ran = run_command(*given, "out.jsonl", "--ray", "local", cwd=many, timeout=600)
    assert ran.returncode == 1, ran.stderr
    assert_same(many / "out.jsonl", many / "local.jsonl")


def logged(path: Path) -> Callable[..., Any]:
    """What labels pictures by their mean, and writes each down."""

    def prepare(model: Any, processor: Any) -> Any:
        def labeller(pixels: Any) -> list[dict[str, float]]:
            means = [float(each.mean()) for each in pixels]
            with path.open("a") as file:  # one write, which files that are appended to take whole
                file.write("".join(f"{mean}\n" for mean in means))
            return [{"text": mean} for mean in means]

        return labeller

    return prepare


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_copies_are_labelled_once_over_the_whole_cluster(many: Path, saved: Path, cluster: str) -> None:  # noqa: F811
    ran = Cluster(address=cluster, model_name=str(saved), prepare=logged(many / "log"), batch_size=3)
    sources = [*sorted((many / "many").iterdir()), many / "none.png"]
    processor = FlamingoImageProcessor(**tiny.PREPROCESS)
    known: dict[str, Any] = {}
    batches = [*ran.outcomes(sources, processor, known)]
    outcomes = [outcome for batch in batches for outcome in batch]
    assert len(outcomes) == 41
    labelled = [outcome.sha256 for outcome in outcomes if outcome.label is not None]
    assert len(labelled) == 36
    assert len((many / "log").read_text().splitlines()) == len({*labelled}) == len(known)
    assert len({*labelled}) < len(labelled)
    assert sum(outcome.error is not None for outcome in outcomes) == 5
    again = [outcome for batch in ran.outcomes(sources, processor, known) for outcome in batch]
    assert again == outcomes
    assert len((many / "log").read_text().splitlines()) == len({*labelled}), "what is known is not labelled again"


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_what_no_machine_can_do_is_one_line(many: Path, saved: Path, cluster: str) -> None:  # noqa: F811
    given = ["caption", "many", "--model", saved, "--ray", cluster, "--out", "out.jsonl"]
    ran = run_command(*given, "--prompt", "long " * 300, cwd=many, timeout=600)
    assert (ran.returncode, ran.stdout) == (2, "")
    *advice, line = ran.stderr.splitlines()
    assert line.startswith("flamingo: expected at most 320 tokens")
    assert not [other for other in advice if not other.startswith("[")], "Ray's core alone may say something before"
    assert not (many / "out.jsonl").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no.such.host.invalid:6379", "nonsense"])
def test_no_cluster_is_one_line(many: Path, flamingo: Flamingo, address: str) -> None:  # noqa: F811
    ran = flamingo("caption", "many", "--model", "MODEL", "--ray", address)
    assert (ran.status, len(ran.err.splitlines())) == (2, 1)
    assert f"--ray {address}" in ran.err
    assert sys.modules["ray"].is_initialized() is False
