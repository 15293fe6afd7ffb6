"""What gradio's own clients may call by name."""

from __future__ import annotations

import threading
from typing import Any, cast

import gradio as gr

from flamingo_app.conversation import Picture, Settings
from flamingo_app.errors import FlamingoError
from flamingo_app.interfaces.api.errors import ApiError
from flamingo_app.interfaces.api.reading import read_messages
from flamingo_app.interfaces.api.schema import ChatMessage, ImageAddress, ImagePart, TextPart
from flamingo_app.interfaces.service import Service


def add_endpoints(service: Service) -> None:
    """Name them, inside of a page that is being built."""

    def ask(question: str, picture: str = "") -> str:
        """Answer a question about a picture.

        Args:
            question: what you want to know.
            picture: the picture as data:image/png;base64,...; empty for none.

        Returns:
            The likeliest answer.
        """
        shown = [ImagePart(type="image_url", image_url=ImageAddress(url=picture))] if picture else []
        asked = ChatMessage(role="user", content=[*shown, TextPart(type="text", text=question)])
        stop = threading.Event()
        try:
            messages = read_messages([asked], Picture.of, None, service.limits)
            answer = service.reply(messages, settings=Settings(), stop=stop)
            with service.desk.enter(None) as ticket:
                return "".join(service.hear(answer, ticket, stop=stop)).strip()
        except (FlamingoError, ApiError) as error:
            raise gr.Error(str(error)) from None

    cast(Any, gr).api(ask, api_name="ask", concurrency_limit=None)
