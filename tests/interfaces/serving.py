"""A real server on a real socket: in a thread, or, to be killed, in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flamingo_app.interfaces.server import ServerOptions, build_app, listen, make_server

ROOT = Path(__file__).parents[2]
PATIENCE = 280.0  # for machines that are busy with other things


@dataclass(kw_only=True)
class Served:
    """A server in a process of its own."""

    address: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        wait_until_ready(self.address, lambda: self.process.poll() is None, self.log)

    def kill(self) -> None:
        """Kill it, as a loss of power would."""
        self.process.kill()
        self.process.wait()


def wait_until_ready(address: str, is_alive: Callable[[], bool], log: Path) -> None:
    """Wait until a server answers, as long as its process is there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert is_alive(), log.read_text()
        try:
            urllib.request.urlopen(f"{address}/ready", timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(log.read_text())


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def served_here(model: Path, data: Path, **options: Any) -> Iterator[str]:
    """The address of a server in a thread of this process, which has loaded torch already."""
    with listen("127.0.0.1", 0) as listening:
        server = make_server(build_app(ServerOptions(model=str(model), data=str(data), **options)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@dataclass(kw_only=True)
class Reborn:
    """A server that is killed and started again and again; each is a process of its own, see `nursery`."""

    address: str
    nursery: subprocess.Popen[str]
    log: Path
    process: int = field(init=False)

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        assert self.nursery.stdin
        assert self.nursery.stdout
        self.nursery.stdin.write("\n")
        self.nursery.stdin.flush()
        self.process = int(self.nursery.stdout.readline())
        wait_until_ready(self.address, self.is_alive, self.log)

    def is_alive(self) -> bool:
        """Whether its process is there."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """Kill it, as a loss of power would."""
        os.kill(self.process, signal.SIGKILL)
        while self.is_alive():
            time.sleep(0.01)


@contextmanager
def reborn(model: Path, data: Path) -> Iterator[Reborn]:
    """`flamingo serve`, to be started; its log must stay free of tracebacks."""
    port = free_port()
    data.mkdir(parents=True, exist_ok=True)
    flags = ["serve", "--model", str(model), "--port", str(port), "--data", str(data)]
    with (data / "log").open("a") as log:
        nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.interfaces.nursery", *flags],
            cwd=ROOT,
            env=os.environ | {"GRADIO_TEMP_DIR": str(data / "uploads"), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with nursery:
        yield Reborn(address=f"http://127.0.0.1:{port}", nursery=nursery, log=data / "log")
    assert "Traceback" not in (data / "log").read_text()


@contextmanager
def served(model: Path, data: Path, *flags: str) -> Iterator[Served]:
    """`python app.py`, whose log must stay free of tracebacks."""
    port = free_port()
    data.mkdir(parents=True, exist_ok=True)
    server = Served(
        address=f"http://127.0.0.1:{port}",
        command=[sys.executable, "app.py", "--model", str(model), "--port", str(port), "--data", str(data), *flags],
        environment=os.environ | {"GRADIO_TEMP_DIR": str(data / "uploads"), "OMP_NUM_THREADS": "1"},
        log=data / "log",
    )
    try:
        server.start()
        yield server
    finally:
        server.process.terminate()
        server.process.wait()
    assert "Traceback" not in server.log.read_text()
