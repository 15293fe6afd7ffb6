"""What went wrong, in OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from flamingo_app.errors import BusyError, ConversationError, FlamingoError, WentOnError
from flamingo_app.interfaces.api.schema import ErrorAnswer, ErrorBody
from flamingo_app.interfaces.service import Service

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        self.status, self.message, self.param, self.code = status, message, param, code
        super().__init__(message)


def answer(error: ApiError) -> JSONResponse:
    """An error as a response."""
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(error.status, "invalid_request_error")
    body = ErrorBody(
        message=error.message,
        type="server_error" if error.status >= 500 else kind,
        param=error.param,
        code=error.code,
    )
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}.get(error.status)
    return JSONResponse(ErrorAnswer(error=body).model_dump(), status_code=error.status, headers=headers)


def of_ours(error: FlamingoError) -> ApiError:
    """One of our errors as the API's."""
    match error:
        case BusyError():
            return ApiError(429, str(error), code="rate_limit_exceeded")
        case WentOnError():  # clients ask again by themselves
            return ApiError(409, str(error), param="conversation", code="conversation_went_on")
        case ConversationError():
            return ApiError(404, str(error), param="conversation", code="conversation_not_found")
        case _:
            return ApiError(400, str(error), param="messages", code="invalid_value")


def install(app: FastAPI, service: Service) -> None:
    """Let every error leave in this shape, counted by its reason."""

    def refuse(error: ApiError) -> JSONResponse:
        service.metrics.refusals.labels(reason=error.code or str(error.status)).inc()
        return answer(error)

    def api_error(request: Request, error: Any) -> JSONResponse:
        return refuse(error)

    def ours(request: Request, error: Any) -> JSONResponse:
        return refuse(of_ours(error))

    def invalid(request: Request, error: Any) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(place) for place in first["loc"] if place != "body")
        message = f"expected a chat completion request; got {where or 'a body'}: {first['msg']}; correct it"
        return refuse(ApiError(400, message, param=where or None, code=first["type"]))

    def http(request: Request, error: Any) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        response = refuse(
            ApiError(error.status_code, f"{error.detail}: {request.method} {request.url.path}", code=code)
        )
        response.headers.update(error.headers or {})
        return response

    def fault(request: Request, error: Exception) -> JSONResponse:
        logger.exception("a request failed", exc_info=error)
        return refuse(ApiError(500, "The request failed through a fault of ours; the server's log says more."))

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(FlamingoError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)
