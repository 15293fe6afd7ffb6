"""The same records from a cluster of two machines, gone on with after a kill."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from tests.interfaces.conftest import Flamingo
from tests.interfaces.test_cli_command import COMMAND, run_command
from tests.interfaces.test_cli_resume import many, records  # noqa: F401

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


@pytest.fixture
def cluster() -> Iterator[str]:
    """Two nodes on this machine, as Ray tests itself; returns the address."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    yield nodes.address
    nodes.shutdown()


def test_a_cluster_writes_the_same_records(many: Path, saved: Path, flamingo: Flamingo, cluster: str) -> None:  # noqa: F811
    local = ["caption", "many", "--model", "MODEL", "--batch-size", "2", "--out"]
    assert flamingo(*local, "local.jsonl").status == 1
    given = [str(saved) if argument == "MODEL" else argument for argument in local]
    with Popen([COMMAND, *given, "out.jsonl", "--ray", cluster], cwd=many, stderr=DEVNULL) as running:
        while not (many / "out.jsonl").exists() or not (many / "out.jsonl").stat().st_size:
            assert running.poll() is None
        running.kill()
    before = len(records(many / "out.jsonl"))
    ran = run_command(*given, "out.jsonl", "--ray", cluster, "--json", cwd=many, timeout=600)
    assert ran.returncode == 1, ran.stderr
    assert 0 < json.loads(ran.stdout)["written_before"] <= before + 2
    ours, theirs = records(many / "out.jsonl"), records(many / "local.jsonl")
    assert [record["file_name"] for record in ours] == [record["file_name"] for record in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.get("error") == other.get("error")
        assert one["text"] == other["text"]
        assert one["score"] == (None if other["score"] is None else pytest.approx(other["score"], rel=1e-3))


def test_no_cluster_is_one_line(many: Path, flamingo: Flamingo) -> None:  # noqa: F811
    ran = flamingo("caption", "many", "--model", "MODEL", "--ray", "127.0.0.1:1")
    assert ran.status == 2
    assert "--ray 127.0.0.1:1" in ran.err
    assert sys.modules["ray"].is_initialized() is False
