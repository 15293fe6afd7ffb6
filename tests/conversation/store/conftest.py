"""A store over SQLite, and over a real PostgreSQL server where its programs are found."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from flamingo_app.conversation.store import Store

PLACES = [*map(Path, os.environ.get("PATH", "").split(os.pathsep)), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
POSTGRES = next((place for place in PLACES if (place / "initdb").exists() and (place / "postgres").exists()), None)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of our own; it refuses to be run by root, so then nobody runs it."""
    if POSTGRES is None:
        pytest.skip("no PostgreSQL on this machine: install it, for instance with `apt install postgresql`")
    folder = tmp_path_factory.mktemp("postgres").resolve()
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        for parent in (folder, *folder.parents[:3]):
            parent.chmod(parent.stat().st_mode | 0o011)
        shutil.chown(folder, user)
    as_user = {"user": user} if os.geteuid() == 0 else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    initialise = [POSTGRES / "initdb", "-D", data, "-U", "flamingo", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initialise, check=True, capture_output=True, cwd="/", **as_user)
    options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off"}
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("w") as log:
        run = [POSTGRES / "postgres", "-D", data, *settings]
        server = subprocess.Popen(run, stdout=log, stderr=log, cwd="/", **as_user)
    url = f"postgresql://flamingo@127.0.0.1:{port}/postgres"
    try:
        while not answers(url):
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # its fast shutdown
        server.wait()


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deep/conversations.db"
    server: str = request.getfixturevalue("postgres")
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return f"{server.rpartition('/')[0]}/{name}"


@pytest.fixture
def store(database: str, tmp_path: Path) -> Iterator[Store]:
    kept = Store(database, str(tmp_path / "pictures"))
    yield kept
    kept.close()
