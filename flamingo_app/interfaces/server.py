"""Page and API of a model in one process, served until interrupted."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from flamingo_app.conversation.store import Store
from flamingo_app.errors import FlamingoError
from flamingo_app.interfaces.api import build_api
from flamingo_app.interfaces.cli.common import load_model
from flamingo_app.interfaces.desk import Desk
from flamingo_app.interfaces.service import Limits, Service
from flamingo_app.interfaces.users import Users, read_secrets
from flamingo_app.interfaces.web import mount_page


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a server is set up.

    Args:
        model: "starter", a preset, or a folder.
        host: the address to listen on; "0.0.0.0" lets other machines in.
        port: the port to listen on.
        data: a folder for what is kept; None is `flamingo-app` in the user's own data folder.
        database_url: None is SQLite in that folder.
        pictures_url: where pictures are kept, a folder or a URL of fsspec; None is in that folder.
        auth: a file of name:password lines; only these people may come in.
        api_keys: a file of name:key lines; only programs with one of these keys may ask.
        fetch_addresses: get the pictures whose http(s) addresses programs send.
        mcp: offer the model to assistants as a tool of the Model Context Protocol; needs the extra `mcp`.
        seats: answers given at once.
        most_waiting: requests that may wait.
        limits: what one request may bring.
    """

    model: str = "starter"
    host: str = "127.0.0.1"
    port: int = 7860
    data: str | None = None
    database_url: str | None = None
    pictures_url: str | None = None
    auth: str | None = None
    api_keys: str | None = None
    fetch_addresses: bool = False
    mcp: bool = False
    seats: int = 4
    most_waiting: int = 64
    limits: Limits = field(default_factory=Limits)


def data_folder() -> Path:
    """Where a user's programs keep their data, as the XDG base directory specification has it."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "flamingo-app"


def build_app(options: ServerOptions) -> FastAPI:
    """The whole application: `/` is the page, `/v1` the API.

    Raises:
        FlamingoError: for a model, a database or a file that cannot be had.
    """
    users = Users(
        passwords=read_secrets(options.auth) if options.auth else None,
        keys=read_secrets(options.api_keys) if options.api_keys else None,
    )
    model, processor = load_model(options.model)  # first: nothing is written for a model that is not there
    data = Path(options.data) if options.data else data_folder()
    store = Store(
        options.database_url or f"sqlite:///{data / 'conversations.db'}", options.pictures_url or str(data / "pictures")
    )
    service = Service(
        model=model,
        processor=processor,
        name=options.model,
        store=store,
        desk=Desk(seats=options.seats, most_waiting=options.most_waiting),
        limits=options.limits,
    )
    fetch = None
    if options.fetch_addresses:
        from flamingo_app.interfaces.api.fetching import fetch_picture as fetch
    return mount_page(build_api(service, users, fetch=fetch), service, users, fetch=fetch, mcp=options.mcp)


def serve(options: ServerOptions, *, quiet: bool = False) -> None:
    """Serve until interrupted.

    Raises:
        FlamingoError: as `build_app`, and where the port cannot be had.
    """
    with listen(options.host, options.port) as listening:  # first: a model takes long to load
        server = make_server(build_app(options))
        if not quiet:
            print(f"* Running on http://{options.host}:{options.port}", flush=True)
        server.run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 is any that is free."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError):
        listening.close()
        got = f"{host}:{port} cannot be had"
        raise FlamingoError(expected="a free port", got=got, remedy="choose another port") from None
    return listening


def make_server(app: FastAPI) -> uvicorn.Server:
    """The server of an application; nothing here speaks WebSocket."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5))
