"""Who may come in over HTTP, and what they find."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from flamingo_app.interfaces.web.visitors import COOKIE
from tests.interfaces.api.conftest import user
from tests.interfaces.serving import served_here

ASKED = {"model": "tiny", "messages": [user("mine", 1)], "max_tokens": 2, "conversation": "diary"}


def test_a_browser_gets_a_cookie_that_scripts_cannot_read(server: str):
    with httpx.Client(base_url=server) as browser:
        given = browser.get("/").headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(given.split("; "))
        assert COOKIE in browser.cookies
        assert "set-cookie" not in browser.get("/").headers


def test_pictures_and_exports_ask_for_the_owner(server: str):
    with httpx.Client(base_url=server) as stranger:
        assert stranger.get("/conversations/diary.json").status_code == 404  # no cookie yet
        stranger.get("/")
        stranger.post("/v1/chat/completions", json=ASKED, timeout=60).raise_for_status()
        for path in ("/conversations/diary.json", f"/conversations/diary/{'0' * 64}.png"):
            answer = stranger.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "conversation_not_found")


@pytest.mark.timeout(600)
def test_only_those_who_are_known_come_in(model_folder: Path, tmp_path: Path):
    (tmp_path / "people").write_text("ann:secret one\nbob:secret two\n")
    (tmp_path / "keys").write_text("ann:key-1\n")
    files = {"auth": str(tmp_path / "people"), "api_keys": str(tmp_path / "keys")}
    with served_here(model_folder, tmp_path / "data", **files) as address, httpx.Client(base_url=address) as client:
        assert client.get("/health").status_code == 200
        for path in ("/", "/config", "/conversations/diary.json"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"][:5]) == (401, "Basic")
            assert client.get(path, auth=("ann", "secret two")).status_code == 401
        assert client.get("/", auth=("bob", "secret two")).status_code == 200

        for headers in ({}, {"authorization": "Bearer key-2"}):
            answer = client.post("/v1/chat/completions", json=ASKED, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        with_key = {"authorization": "Bearer key-1"}
        client.post("/v1/chat/completions", json=ASKED, headers=with_key, timeout=60).raise_for_status()
        # What a person's program begins, the person finds on the page, and nobody else.
        kept = client.get("/conversations/diary.json", auth=("ann", "secret one"))
        assert kept.json()["turns"][0]["said"][0] == {"text": "mine"}
        name = kept.json()["turns"][0]["said"][1]["picture"]
        assert client.get(f"/conversations/diary/{name}.png", auth=("ann", "secret one")).content[:4] == b"\x89PNG"
        assert client.get(f"/conversations/diary/{name}.png", auth=("bob", "secret two")).status_code == 404
        theirs = client.post("/v1/chat/completions", json=ASKED, auth=("bob", "secret two"))
        assert theirs.status_code == 404
