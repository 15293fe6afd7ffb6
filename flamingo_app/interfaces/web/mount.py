"""The page in front of the API, and what the page links to: pictures and exported conversations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gradio as gr
from anyio import to_thread
from fastapi import FastAPI, Request, Response
from gradio.themes import Base, Soft

from flamingo_app.conversation.store.portable import to_archive, to_json
from flamingo_app.errors import ConfigError, FlamingoError
from flamingo_app.interfaces.service import Service
from flamingo_app.interfaces.users import Users
from flamingo_app.interfaces.web.page import build_page
from flamingo_app.interfaces.web.visitors import Door, owner_of

HERE = Path(__file__).parent
THREADS = 128
"""Requests may wait in threads for their turn: as many as the queue holds, and some to look after the rest."""


def mount_page(
    app: FastAPI, service: Service, users: Users, *, fetch: Callable[[str], bytes] | None = None, mcp: bool = False
) -> FastAPI:
    """Put the page at `/` of the API's application.

    Args:
        fetch: as for `build_api`.
        mcp: offer the named endpoints to assistants as tools, at /gradio_api/mcp.

    Raises:
        ConfigError: for `mcp` without the package that speaks it.
    """
    app.add_middleware(Door, users=users)
    _link(app, service, users)
    page = build_page(service, users, fetch)

    async def more_threads() -> None:
        to_thread.current_default_thread_limiter().total_tokens = THREADS

    app.router.add_event_handler("startup", more_threads)
    page.queue(max_size=None)
    mounted = gr.mount_gradio_app(
        app,
        page,
        "/",
        max_file_size=service.limits.picture_bytes,
        show_error=True,
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        theme=theme(),
        css_paths=HERE / "style.css",
        favicon_path=str(HERE / "flamingo.svg"),
        mcp_server=mcp,
    )
    if mcp and not cast(Any, page).mcp_server:  # gradio notes that, and goes on without
        raise ConfigError(
            expected="a package mcp that speaks with gradio", got="none", remedy="pip install 'flamingo-app[mcp]'"
        )
    return mounted


def _link(app: FastAPI, service: Service, users: Users) -> None:
    private = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}

    def owner(request: Request) -> str:
        return owner_of(request.headers, users)

    @app.get("/conversations/{identity}/{name}.png", include_in_schema=False)
    def picture(identity: str, name: str, request: Request) -> Response:
        """A picture, to those whose conversation shows it."""
        store = service.store
        kept = store.picture(owner(request), identity, name)
        return Response(store.pictures.read(kept.name), media_type="image/png", headers=private)

    @app.get("/conversations/{identity}.{form}", include_in_schema=False)
    def export(identity: str, form: str, request: Request) -> Response:
        """A conversation as a file."""
        saved = service.store.load(owner(request), identity)
        writers: dict[str, Any] = {"json": (to_json, "application/json"), "zip": (to_archive, "application/zip")}
        if form not in writers:
            raise FlamingoError(expected="json or zip", got=form, remedy="choose one of these")
        write, kind = writers[form]
        name = f'attachment; filename="conversation-{identity[:8]}.{form}"'
        return Response(write(saved, service.store.pictures), media_type=kind, headers={"Content-Disposition": name})


def theme() -> Base:
    """Flamingo pink on paper; fonts of the reader's own, so that nothing is fetched from elsewhere."""
    fonts = ["ui-rounded", "system-ui", "sans-serif"]
    return Soft(
        primary_hue="pink",
        secondary_hue="rose",
        neutral_hue="stone",
        radius_size="lg",
        font=fonts,
        font_mono=["ui-monospace", "monospace"],
    )
