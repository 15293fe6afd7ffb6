"""A store over SQLite, and over a real PostgreSQL server where its programs are found."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
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
    control = [POSTGRES / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, cwd="/", **as_user)
    try:
        yield f"postgresql://flamingo@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd="/", **as_user)


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
