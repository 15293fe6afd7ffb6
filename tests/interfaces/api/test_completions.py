"""What programs get, through the official client, through curl and through gradio's."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import gradio as gr
import openai
import pytest
from gradio_client import Client as GradioClient
from gradio_client.exceptions import AppError

from tests.interfaces.api.conftest import data_url, user

MODEL: Any = {"model": "tiny"}
CHAT = [user("what is ", 1, " beside ", 2, "?")]


def say(client: openai.OpenAI, messages: Any, **options: Any) -> str:
    return (
        client.chat.completions.create(**MODEL | {"messages": messages, "max_tokens": 12} | options)
        .choices[0]
        .message.content
        or ""
    )


def counted(server: str, name: str) -> float:
    with urllib.request.urlopen(f"{server}/metrics") as told:
        lines = told.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_an_answer_whole_and_as_a_stream_is_the_same(client: openai.OpenAI):
    whole = client.chat.completions.create(**MODEL, messages=CHAT, max_tokens=12)
    choice = whole.choices[0]
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    stream = client.chat.completions.create(
        **MODEL, messages=CHAT, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).strip()
        == choice.message.content
    )
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, 12)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1  # the first request has read it


def test_pictures_and_their_order_matter(client: openai.OpenAI):
    assert len({say(client, [user(*parts)]) for parts in [(1, "a", 2), (2, "a", 1), ("a",)]}) == 3


def test_seeds_draw_the_same_again_and_n_draws_several(client: openai.OpenAI):
    drawn = [say(client, CHAT, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    several = client.chat.completions.create(**MODEL, messages=CHAT, max_tokens=12, temperature=1.5, seed=1, n=2)
    assert [choice.message.content for choice in several.choices] == drawn[1:]
    chunks = client.chat.completions.create(
        **MODEL, messages=CHAT, max_tokens=12, temperature=1.5, seed=1, n=2, stream=True
    )
    said = ["", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
    assert [words.strip() for words in said] == drawn[1:]


def test_a_stop_string_ends_the_answer(client: openai.OpenAI):
    whole = say(client, CHAT)
    stopped = client.chat.completions.create(**MODEL, messages=CHAT, max_tokens=12, stop=[whole[4:6]]).choices[0]
    assert stopped.message.content == whole[: whole.index(whole[4:6])].strip()
    assert stopped.finish_reason == "stop"


def test_log_probabilities_are_of_the_tokens_that_were_said(client: openai.OpenAI):
    choice = client.chat.completions.create(
        **MODEL, messages=CHAT, max_tokens=8, logprobs=True, top_logprobs=3
    ).choices[0]
    assert choice.logprobs is not None
    content = choice.logprobs.content
    assert content is not None
    assert len(content) == 8
    for token in content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(likely.logprob for likely in token.top_logprobs)  # the likeliest was said


def test_a_system_message_is_read(client: openai.OpenAI):
    assert say(client, [{"role": "system", "content": "be brief"}, user("a", 1)]) == say(
        client, [user("be brief", "a", 1)]
    )


def test_a_conversation_is_kept_and_gone_on_with(client: openai.OpenAI):
    identity = uuid4().hex
    first = say(client, [user("one", 1)], extra_body={"conversation": identity})
    second = say(client, [user("two")], extra_body={"conversation": identity})
    whole = [user("one", 1), {"role": "assistant", "content": first}, user("two")]
    assert second == say(client, whole)
    with pytest.raises(openai.BadRequestError, match="one new message"):
        say(client, whole, extra_body={"conversation": identity})


ERRORS: list[tuple[dict[str, Any], int, str]] = [
    ({"model": "gpt-9"}, 404, "expected tiny; got 'gpt-9'"),
    ({"messages": []}, 400, "at least 1"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "a user's message at the end"),
    ({"messages": [user("")]}, 400, "empty message"),
    ({"messages": [user("<image>")]}, 400, "literal <image>"),
    ({"messages": [user("nul \0")]}, 400, "NUL"),
    ({"messages": [user("x" * 400)]}, 400, "expected a message of at most"),
    ({"temperature": 3}, 400, "temperature"),
    ({"n": 0}, 400, "got n:"),
    ({"extra_body": {"tools": []}}, 400, "tools"),
    ({"top_logprobs": 2}, 400, "logprobs"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}]}]},
        400,
        "does not fetch",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}
            ]
        },
        400,
        "a data: URL",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}]}
            ]
        },
        400,
        "as base64",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,d29yZHM="}}],
                }
            ]
        },
        400,
        "expected a picture",
    ),
    ({"messages": [user(*[1] * 65)]}, 413, "at most 64 pictures"),
    ({"messages": [user("x" * (65 * 2**20))]}, 413, "at most 64 MB"),
]


@pytest.mark.parametrize(("wrong", "status", "said"), ERRORS)
def test_what_is_wrong_is_said_in_openais_shape(client: openai.OpenAI, wrong: dict[str, Any], status: int, said: str):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**MODEL | {"messages": CHAT} | wrong)
    assert caught.value.status_code == status
    assert said in str(caught.value)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body.keys() == {"message", "type", "param", "code"}


def test_models_are_listed(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def curl(server: str, path: str, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", f"{server}{path}", *options],
        capture_output=True,
        text=True,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_curl(server: str):
    assert curl(server, "/health") == (200, '{"status":"ok"}')
    assert curl(server, "/ready") == (200, '{"status":"ready"}')
    body = json.dumps({"model": "tiny", "messages": CHAT, "max_tokens": 3, "stream": True})
    status, events = curl(server, "/v1/chat/completions", "-d", body, "-H", "Content-Type: application/json")
    assert status == 200
    lines = [line for line in events.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: "))["object"] == "chat.completion.chunk" for line in lines[:-1])
    for path, options, wanted in [
        ("/v1/nothing", (), 404),
        ("/v1", (), 404),
        ("/v1/models", ("-X", "OPTIONS"), 405),
        ("/v1/chat/completions", ("-X", "DELETE"), 405),
        ("/health", ("-X", "POST"), 405),
        ("/v1/chat/completions", ("-d", "{", "-H", "Content-Type: application/json"), 400),
    ]:
        status, body = curl(server, path, *options)
        assert (status, json.loads(body)["error"]["type"]) == (wanted, "invalid_request_error")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("before", [[], [{"role": "assistant", "content": "half \udfff"}, user("a")]])
def test_half_a_character_is_refused_wherever_it_stands(server: str, before: list[Any]):
    body = json.dumps(MODEL | {"messages": [*before, user("" if before else "half \ud800", "a")]})
    status, said = curl(server, "/v1/chat/completions", "-d", body, "-H", "Content-Type: application/json")
    assert status == 400
    assert "lone surrogate" in json.loads(said)["error"]["message"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_gradios_own_chat_over_it(server: str, client: openai.OpenAI):
    chat = gr.load_chat(f"{server}/v1/", model="tiny", token="any")
    said = list(chat.fn("hello there", []))
    assert said[-1].strip() == say(client, [{"role": "user", "content": "hello there"}], max_tokens=None)


def test_gradios_client_asks_by_name(server: str, client: openai.OpenAI):
    asking = GradioClient(server, verbose=False)
    said = asking.predict("what?", data_url(1), api_name="/ask")
    assert said == say(client, [user(1, "what?")], max_tokens=64)
    with pytest.raises(AppError, match="expected a picture"):
        asking.predict("what?", "data:image/png;base64,d29yZHM=", api_name="/ask")
    asking.close()


def test_a_client_that_hangs_up_ends_the_work(server: str, client: openai.OpenAI):
    before = counted(server, 'flamingo_answers_total{finish="stopped"}')
    with client.chat.completions.create(**MODEL, messages=[user("go on")], max_tokens=200, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    for _ in range(100):
        if counted(server, 'flamingo_answers_total{finish="stopped"}') > before:
            break
        time.sleep(0.1)
    assert counted(server, 'flamingo_answers_total{finish="stopped"}') == before + 1
    assert counted(server, "flamingo_queue_depth") == 0


def test_metrics_count(server: str, client: openai.OpenAI):
    names = ["flamingo_first_token_seconds_count", 'flamingo_tokens_total{kind="answer"}', "flamingo_refusals_total"]
    before = [counted(server, name) for name in names]
    say(client, CHAT, max_tokens=5)
    with pytest.raises(openai.NotFoundError):
        say(client, CHAT, model="other")
    after = [counted(server, name) for name in names]
    assert [now - then for then, now in zip(before, after, strict=True)] == [1, 5, 1]


def converse(client: openai.OpenAI, number: int, turns: int) -> list[str]:
    """A conversation with a secret and pictures of its own."""
    identity = uuid4().hex
    return [
        say(client, [user(f"secret {number * 7919}", 100 * number + turn)], extra_body={"conversation": identity})
        for turn in range(turns)
    ]


@pytest.mark.parametrize(
    ("chats", "turns"), [(4, 3), pytest.param(32, 10, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_many_conversations_at_once_are_each_as_alone(client: openai.OpenAI, chats: int, turns: int):
    patient = client.with_options(max_retries=8)
    with ThreadPoolExecutor(chats) as threads:
        together = list(threads.map(lambda number: converse(patient, number, turns), range(chats)))
    alone = [converse(client, number, turns) for number in range(chats)]
    assert together == alone
    assert len({tuple(said) for said in alone}) == chats


def test_data_urls_differ():
    assert data_url(1) != data_url(2)
