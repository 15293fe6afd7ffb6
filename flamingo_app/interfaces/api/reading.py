"""A request's messages and pictures to a chat."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence

from flamingo_app.conversation import Message, Picture, Settings
from flamingo_app.conversation.session import MAX_NEW_TOKENS
from flamingo_app.errors import PictureError
from flamingo_app.interfaces.api.errors import ApiError
from flamingo_app.interfaces.api.schema import ChatMessage, ChatRequest, ImagePart
from flamingo_app.interfaces.service import Limits
from flamingo_app.prompt import refuse_unreadable

LONGEST_WHERE_NOBODY_SAYS = 4 * MAX_NEW_TOKENS


def read_settings(request: ChatRequest, limits: Limits) -> Settings:
    """How the answers are chosen."""
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiError(400, "expected logprobs with top_logprobs; got top_logprobs alone; set logprobs to true")
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    most = request.max_completion_tokens or request.max_tokens or LONGEST_WHERE_NOBODY_SAYS
    return Settings(
        max_new_tokens=min(most, limits.new_tokens),
        temperature=request.temperature or 0.0,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=request.seed,
        stop=tuple(stop),
        num_likeliest=(request.top_logprobs or 0) if request.logprobs else None,
    )


def read_messages(
    given: Sequence[ChatMessage], put: Callable[[bytes], Picture], fetch: Callable[[str], bytes] | None, limits: Limits
) -> list[Message]:
    """The chat, the user's message last.

    Args:
        put: keeps a picture's bytes.
        fetch: gets the bytes at an address; None refuses addresses.

    Raises:
        ApiError: for a chat that does not end with the user, too many pictures, or an address that is refused.
        PictureError: for what is no safe picture.
        PromptError: for words that cannot be read.
    """
    if given[-1].role != "user":
        got = f"one of the {given[-1].role}"
        raise ApiError(400, f"expected a user's message at the end; got {got}; end with a question", param="messages")
    count = sum(isinstance(part, ImagePart) for message in given for part in _parts(message))
    if count > limits.pictures:
        raise ApiError(
            413, f"expected at most {limits.pictures} pictures; got {count}; send fewer", code="too_many_pictures"
        )
    messages: list[Message] = []
    before: list[str | Picture] = []
    for message in given:
        for part in _parts(message):
            refuse_unreadable(part if isinstance(part, str) else "")
        parts = [
            part if isinstance(part, str) else put(_bytes(part.image_url.url, fetch, limits))
            for part in _parts(message)
        ]
        if message.role in ("system", "developer"):
            before += parts
        elif message.role == "user":
            messages.append(Message(role="user", parts=(*before, *parts)))
            before = []
        else:
            messages.append(Message(role="assistant", parts=tuple(parts)))
    return messages


def _parts(message: ChatMessage) -> list[str | ImagePart]:
    if isinstance(message.content, str):
        return [message.content]
    return [part if isinstance(part, ImagePart) else part.text for part in message.content]


def _bytes(url: str, fetch: Callable[[str], bytes] | None, limits: Limits) -> bytes:
    head, comma, payload = url.partition(",")
    if head.startswith("data:"):
        try:
            if not (comma and head.endswith(";base64")):
                raise ValueError
            data = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError):
            raise PictureError(
                expected="data:image/png;base64,...", got=repr(url[:40]), remedy="encode the picture as base64"
            ) from None
    elif url.startswith(("http://", "https://")):
        if fetch is None:
            raise ApiError(
                400,
                "expected a data: URL; got an address, which this server does not fetch; send the picture itself",
                code="addresses_not_allowed",
            )
        data = fetch(url)
    else:
        raise PictureError(
            expected="a data: URL", got=repr(url[:40]), remedy="send the picture as data:image/png;base64,..."
        )
    if len(data) > limits.picture_bytes:
        most = f"a picture of at most {limits.picture_bytes // 2**20} MB"
        raise ApiError(
            413, f"expected {most}; got {len(data) / 2**20:.1f} MB; make it smaller", code="picture_too_large"
        )
    return data
