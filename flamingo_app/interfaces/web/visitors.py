"""Who looks at the page: a person who logged in, or a browser known by a cookie."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any, cast

from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flamingo_app.errors import ConversationError
from flamingo_app.interfaces.users import Users

COOKIE = "flamingo_visitor"
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
TEN_YEARS = 10 * 365 * 24 * 3600
OPEN = ("/v1/", "/health", "/ready", "/metrics")
"""Paths that the API looks after."""


def owner_of(headers: Mapping[str, str], users: Users) -> str:
    """Whose conversations the page shows, by the head of a request.

    Raises:
        ConversationError: for a browser that keeps no cookies.
    """
    if name := users.of_request(headers.get("authorization", "")):
        return f"user:{name}"
    token = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
    if not TOKEN.fullmatch(token):
        raise ConversationError(
            expected="a browser that keeps cookies",
            got="none of ours",
            remedy="allow them for this page, and reload it",
        )
    return f"visitor:{hashlib.sha256(token.encode()).hexdigest()}"


class Door:
    """Asks for a name and password where only some may come in; else gives each browser a cookie of its own."""

    def __init__(self, app: ASGIApp, users: Users) -> None:
        self.app, self.users = app, users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"].startswith(OPEN):
            return await self.app(scope, receive, send)
        request = Request(scope)
        if self.users.passwords:
            if self.users.of_request(request.headers.get("authorization", "")) is None:
                ask = {"WWW-Authenticate": 'Basic realm="Flamingo", charset="UTF-8"'}
                return await PlainTextResponse("Who are you?", status_code=401, headers=ask)(scope, receive, send)
        elif scope["path"] == "/" and not TOKEN.fullmatch(request.cookies.get(COOKIE, "")):
            return await self.app(scope, receive, _giving_a_cookie(send, secure=scope["scheme"] == "https"))
        return await self.app(scope, receive, send)


def _giving_a_cookie(send: Send, *, secure: bool) -> Send:
    cookie = SimpleCookie({COOKIE: secrets.token_urlsafe(32)})
    flags: dict[str, Any] = {
        "path": "/",
        "httponly": True,
        "samesite": "Lax",
        "max-age": TEN_YEARS,
        "secure": secure,
    }
    cast("dict[str, Any]", cookie[COOKIE]).update(flags)

    async def give(message: Message) -> None:
        if message["type"] == "http.response.start":
            line = (b"set-cookie", cookie[COOKIE].OutputString().encode())
            message = {**message, "headers": [*message["headers"], line]}
        await send(message)

    return give
