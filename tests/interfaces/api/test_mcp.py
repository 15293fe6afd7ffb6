"""The model as a tool of assistants, through the official client of their protocol."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, Tool

from flamingo_app.interfaces.cli import main
from tests.interfaces.api.conftest import data_url, user
from tests.interfaces.serving import served


async def use(address: str, headers: dict[str, str], *calls: dict[str, Any]) -> tuple[list[Tool], list[CallToolResult]]:
    """The tools that are offered, and what came of calls of `ask`."""
    async with (
        streamablehttp_client(f"{address}/gradio_api/mcp/", headers=headers) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        return (await session.list_tools()).tools, [await session.call_tool("ask", call) for call in calls]


def told(result: CallToolResult) -> str:
    return "".join(part.text for part in result.content if part.type == "text")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_assistant_asks_about_a_picture(model_folder: Path, tmp_path: Path):
    (tmp_path / "keys").write_text("ann:key-1\n")
    known = {"Authorization": "Bearer key-1"}
    asked = {"question": "what?", "picture": data_url(1)}
    with served(model_folder, tmp_path / "data", "--mcp", "--api-keys", str(tmp_path / "keys")) as server:
        address = server.address
        tools, (said, damaged) = asyncio.run(
            use(address, known, asked, asked | {"picture": "data:image/png;base64,d29yZHM="})
        )
        assert [tool.name for tool in tools] == ["ask"]
        assert set(tools[0].inputSchema["properties"]) == {"question", "picture"}
        assert "Answer a question about a picture" in (tools[0].description or "")
        with openai.OpenAI(base_url=f"{address}/v1", api_key="key-1") as client:
            same: Any = {"messages": [user(1, "what?")], "max_tokens": 64}
            assert told(said) == client.chat.completions.create(model="tiny", **same).choices[0].message.content
        assert damaged.isError
        assert "expected a picture" in told(damaged)

        _, (refused,) = asyncio.run(use(address, {}, asked))
        assert refused.isError
        assert "expected an API key" in told(refused)


def test_without_being_asked_nothing_is_offered(server: str):
    assert httpx.post(f"{server}/gradio_api/mcp/", json={}).status_code in (404, 405)
    assert not httpx.get(f"{server}/config").json()["mcp_server"]


def test_a_missing_package_is_named(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "mcp", None)
    arguments = ["serve", "--mcp", "--port", "0", "--model", str(model_folder), "--data", str(tmp_path)]
    assert main(arguments) == 2
    assert "pip install 'flamingo-app[mcp]'" in capsys.readouterr().err
