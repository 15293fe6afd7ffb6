"""What gradio's own clients may call by name, and assistants as a tool."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import gradio as gr

from flamingo_app.conversation import Picture, Settings
from flamingo_app.errors import FlamingoError
from flamingo_app.interfaces.api.errors import ApiError
from flamingo_app.interfaces.api.reading import read_messages
from flamingo_app.interfaces.api.schema import ChatMessage, ImageAddress, ImagePart, TextPart
from flamingo_app.interfaces.service import Service
from flamingo_app.interfaces.users import Users


def add_endpoints(service: Service, users: Users, fetch: Callable[[str], bytes] | None) -> None:
    """Name them, inside of a page that is being built; `fetch` as for the API."""

    def ask(request: gr.Request, question: str, picture: str = "") -> str:
        """Answer a question about a picture.

        Args:
            question: what you want to know.
            picture: the picture as data:image/png;base64,...; empty for none.

        Returns:
            The likeliest answer.
        """
        if users.closed and users.of_request(request.headers.get("authorization", "")) is None:
            raise gr.Error("expected an API key; got none that is known; send Authorization: Bearer KEY")
        shown = [ImagePart(type="image_url", image_url=ImageAddress(url=picture))] if picture else []
        asked = ChatMessage(role="user", content=[*shown, TextPart(type="text", text=question)])
        stop = threading.Event()
        try:
            messages = read_messages([asked], Picture.of, fetch, service.limits)
            answer = service.reply(messages, settings=Settings(), stop=stop)
            with service.desk.enter(None) as ticket:
                return "".join(service.hear(answer, ticket, stop=stop)).strip()
        except (FlamingoError, ApiError) as error:
            raise gr.Error(str(error)) from None

    # Our own queue tells who is next; past gradio's, a call keeps the head of the request that it came with.
    cast(Any, gr).api(ask, api_name="ask", queue=False)
