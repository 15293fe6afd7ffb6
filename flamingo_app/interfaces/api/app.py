"""The routes of the API."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http import HTTPMethod
from typing import Any, cast

import anyio
from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from flamingo_app.conversation import Picture, Reply
from flamingo_app.errors import ConversationError, FlamingoError, StoreError
from flamingo_app.interfaces.api import errors
from flamingo_app.interfaces.api.completions import Answers
from flamingo_app.interfaces.api.errors import ApiError
from flamingo_app.interfaces.api.reading import read_messages, read_settings
from flamingo_app.interfaces.api.schema import ChatRequest, Completion, ModelCard, ModelList, State, responses
from flamingo_app.interfaces.service import Service, status_of
from flamingo_app.interfaces.users import Users

END: Any = object()
EVERYBODY = "everybody"
"""Who owns the conversations of programs where nobody has a key."""


def build_api(service: Service, users: Users, *, fetch: Callable[[str], bytes] | None = None) -> FastAPI:
    """The API of a model.

    Args:
        users: who may ask.
        fetch: gets the pictures at http(s) addresses; None refuses them.
    """
    app = FastAPI(
        title="Flamingo",
        description="Chat completions in OpenAI's shape.",
        docs_url=None,  # it would fetch its scripts from elsewhere
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.add_middleware(SmallBodies, most=service.limits.request_bytes)
    errors.install(app, service)
    started = int(time.time())

    def owner(request: Request) -> str:
        name = users.of_request(request.headers.get("authorization", ""))
        if name is None and users.closed:
            raise ApiError(
                401,
                "expected an API key; got none that is known; send Authorization: Bearer KEY",
                code="invalid_api_key",
            )
        return f"user:{name}" if name else EVERYBODY

    def card() -> ModelCard:
        return ModelCard(id=service.model_id, created=started, owned_by="flamingo")

    @app.get("/health", responses=responses(405))
    def health() -> State:
        """The server lives."""
        return State(status="ok")

    @app.get("/ready", responses=responses(405, 503))
    def ready() -> State:
        """The model is loaded and the database answers."""
        try:
            service.store.check()
        except StoreError as error:
            raise ApiError(503, str(error)) from None
        return State(status="ready")

    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Counters, for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", responses=responses(401, 405))
    def models(request: Request) -> ModelList:
        """The model that is served."""
        owner(request)
        return ModelList(data=[card()])

    @app.get("/v1/models/{model}", responses=responses(400, 401, 404, 405))
    def model(model: str, request: Request) -> ModelCard:
        """The same by its name."""
        owner(request)
        _check_model(model, service)
        return card()

    @app.post("/v1/chat/completions", response_model=Completion, responses=responses(400, 401, 404, 405, 409, 413, 429))
    async def complete(body: ChatRequest, request: Request) -> Response:
        """Answer a chat; with `stream` as server-sent events."""
        asker = owner(request)
        _check_model(body.model, service)
        answers = await to_thread.run_sync(partial(_prepare, service, body, asker, fetch))
        if body.stream:
            usage = bool(body.stream_options and body.stream_options.include_usage)
            return Events(answers, include_usage=usage)
        try:
            completion = await _until_left(request, answers.stop, to_thread.run_sync(answers.whole))
        finally:
            answers.ticket.leave()
        return JSONResponse(completion.model_dump())

    def nothing(request: Request) -> Response:
        allowed = {
            method
            for route in app.routes
            if isinstance(route, APIRoute) and route.name != "nothing"
            if route.matches(request.scope)[0] == Match.PARTIAL
            for method in route.methods or ()
        }
        raise HTTPException(405, headers={"Allow": ", ".join(allowed)}) if allowed else HTTPException(404)

    for path in ("/health", "/ready", "/metrics", "/v1", "/v1/{rest:path}"):  # behind them all begins the page
        app.add_api_route(path, nothing, methods=[*HTTPMethod], include_in_schema=False)

    return app


def _prepare(service: Service, body: ChatRequest, asker: str, fetch: Callable[[str], bytes] | None) -> Answers:
    """Check everything that can be refused, and keep the question, before anything is answered."""
    settings, stop = read_settings(body, service.limits), threading.Event()
    messages = read_messages(
        body.messages, service.store.pictures.put if body.conversation else _hold, fetch, service.limits
    )
    number, saved = 0, None
    if body.conversation:
        if len(messages) != 1 or (body.n or 1) != 1:
            raise ApiError(
                400, "expected one new message and one answer; got more; the server knows the rest", param="messages"
            )
        try:
            saved = service.store.load(asker, body.conversation)
        except ConversationError:
            with suppress(ConversationError):  # another request has begun it meanwhile, or it is another's
                service.store.create(asker, id=body.conversation)
            saved = service.store.load(asker, body.conversation)
        number, new = len(saved.turns), messages[-1]
        messages = [*saved.messages, new]
        settings = replace(settings, memory=saved.remembers, forgotten=saved.forgotten)
    first = service.reply(messages, examples=() if saved is None else saved.examples, settings=settings, stop=stop)
    ticket = service.desk.enter(None if asker == EVERYBODY else asker)
    try:
        if body.conversation:
            service.store.ask(asker, body.conversation, number, messages[-1].parts, replaces=False)
    except BaseException:
        ticket.leave()
        raise

    def keep(words: str, answer: Reply) -> None:
        if body.conversation:
            service.store.answer(asker, body.conversation, number, words, status_of(answer), said=messages[-1].parts)

    return Answers(
        service=service,
        messages=messages,
        settings=settings,
        number=body.n or 1,
        ticket=ticket,
        stop=stop,
        conversation=body.conversation,
        keep=keep,
        first=first,
    )


def _hold(data: bytes) -> Picture:
    """A picture that lives as long as its request."""
    return Picture.of(data)


def _check_model(model: str, service: Service) -> None:
    if model not in (service.model_id, service.name):
        raise ApiError(
            404,
            f"expected {service.model_id}; got {model[:200]!r}; GET /v1/models lists what there is",
            param="model",
            code="model_not_found",
        )


class Events(StreamingResponse):
    """Answers as server-sent events; when nobody listens any more they stop, and their place is given back."""

    def __init__(self, answers: Answers, *, include_usage: bool) -> None:
        self.answers = answers
        self.events = answers.events(include_usage=include_usage)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(self._listen(), media_type="text/event-stream", headers=headers)

    async def _listen(self) -> AsyncIterator[str]:
        try:
            while (event := await to_thread.run_sync(next, self.events, END)) is not END:
                yield event
        except FlamingoError as error:  # the head of the response has left already
            yield f"data: {bytes(errors.answer(errors.of_ours(error)).body).decode()}\n\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answers.stop.set()
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(cast(Any, self.events).close)
            self.answers.ticket.leave()


async def _until_left(request: Request, stop: threading.Event, work: Awaitable[Completion]) -> Completion:
    """Wait for work; a client that hangs up stops it."""

    async def watch() -> None:
        while not stop.is_set():
            if await request.is_disconnected():
                stop.set()
            await anyio.sleep(0.2)

    done: Completion | Exception | None = None
    async with anyio.create_task_group() as group:  # which would wrap what is raised in it
        group.start_soon(watch)
        try:
            done = await work
        except Exception as error:
            done = error
        group.cancel_scope.cancel()
    if isinstance(done, Exception):
        raise done
    return cast(Completion, done)


class SmallBodies:
    """Refuses a request whose body is larger than it may be, also where its head is silent about that."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            return await self.app(scope, receive, send)
        body = b""
        more = True
        while more:  # read whole: the routes need all of it before they begin
            event = await receive()
            if event["type"] != "http.request":
                return None
            body, more = body + event.get("body", b""), event.get("more_body", False)
            if len(body) > self.most:
                message = f"expected at most {self.most // 2**20} MB; got more; send fewer or smaller pictures"
                return await errors.answer(ApiError(413, message, code="request_too_large"))(scope, receive, send)
        given = False

        async def whole() -> Event:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self.app(scope, whole, send)
