"""The files in deploy/ fit what they deploy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import openai
import pytest
import yaml

from flamingo_app.interfaces.cli.parser import build_parser
from tests.interfaces.api.conftest import user
from tests.interfaces.serving import free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def test_the_image_holds_what_it_copies_and_runs_what_there_is():
    for line in re.findall(r"^COPY (.*)", DOCKERFILE, flags=re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()[:-1]), line
    flags = re.findall(r"(--[a-z-]+)", DOCKERFILE.rpartition("CMD")[2])
    command = ["serve", *(word for flag in flags for word in (flag, "1"))]
    assert build_parser().parse_args(command).command == "serve"


def test_the_services_of_the_compose_file_belong_together():
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    app, database = compose["services"]["app"], compose["services"]["database"]
    assert (ROOT / "deploy" / app["build"]["context"] / app["build"]["dockerfile"]).is_file()
    assert f"postgresql://{database['environment']['POSTGRES_USER']}:" in app["environment"]["DATABASE_URL"]
    assert "DATABASE_URL" in DOCKERFILE
    used = [volume.split(":")[0] for service in (app, database) for volume in service["volumes"]]
    assert set(used) == set(compose["volumes"])


REPLICAS = """
import os, sys, time
from ray import serve
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
from deploy.ray_serve import application
serve.run(application)
print("ready", flush=True)
time.sleep(3600)
"""


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    not (find_spec("ray") and find_spec("grpc_reflection")),  # which ray has, and its part that serves needs
    reason="Ray Serve is not installed: pip install -e '.[ray]'",
)
def test_any_of_two_replicas_goes_on_with_a_conversation(model_folder: Path, tmp_path: Path):
    port = free_port()
    environment = os.environ | {
        "MODEL": str(model_folder),
        "DATA": str(tmp_path),
        "REPLICAS": "2",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", REPLICAS, str(port)], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        while "ready" not in (tmp_path / "log").read_text():
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(1)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any") as client:
            history: list[object] = []
            for turn in range(8):
                asked = user(f"turn {turn}", turn)
                kept = client.chat.completions.create(
                    model="tiny", messages=[asked], max_tokens=8, extra_body={"conversation": "shared"}
                )
                whole = client.chat.completions.create(model="tiny", messages=[*history, asked], max_tokens=8)  # type: ignore[list-item]
                assert kept.choices[0].message.content == whole.choices[0].message.content
                history += [asked, {"role": "assistant", "content": kept.choices[0].message.content}]
        told = [urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode() for _ in range(60)]
        assert len({re.findall(r"^process_start_time_seconds .*", each, re.MULTILINE)[0] for each in told}) == 2
    finally:
        server.terminate()
        server.wait()
