"""What is asked and answered, in the shape of OpenAI's chat completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Given(BaseModel):
    """What comes from outside: a name that nobody knows is refused, not passed over."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TextPart(Given):
    """Words."""

    type: Literal["text"]
    text: str


class ImageAddress(Given):
    """Where a picture is."""

    url: Annotated[str, Field(description="data:image/...;base64,... or, where the server allows it, https://...")]
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Given):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageAddress


Content = str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class ChatMessage(Given):
    """One message; system and developer messages are read as words in front of the user's next."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = None
    refusal: None = None


class StreamOptions(Given):
    """What a stream tells beside the words."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ResponseFormat(Given):
    """Plain text is the one format."""

    type: Literal["text"]


class ChatRequest(Given):
    """A chat to be answered. Without a temperature the likeliest words are said."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    conversation: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        default=None,
        description="Go on with a conversation that the server keeps; messages holds one new message then.",
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None


class PromptDetails(BaseModel):
    """How much of the prompt was known already."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens that were read and said."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Likely(BaseModel):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class SaidToken(Likely):
    """A token that was said."""

    top_logprobs: list[Likely]


class LogProbabilities(BaseModel):
    """Of each token of an answer."""

    content: list[SaidToken]
    refusal: None = None


class Said(BaseModel):
    """An answer's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """One answer."""

    index: int
    message: Said
    logprobs: LogProbabilities | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """All answers to a request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    conversation: str | None = None
    choices: list[Choice]
    usage: Usage


class Delta(BaseModel):
    """A piece of a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """A piece of one answer."""

    index: int
    delta: Delta
    logprobs: LogProbabilities | None = None
    finish_reason: Literal["stop", "length"] | None = None


class Chunk(BaseModel):
    """A piece of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    conversation: str | None = None
    choices: list[ChunkChoice]
    usage: Usage | None = None


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """The shape of every error."""

    error: ErrorBody


class State(BaseModel):
    """Whether the server lives, or is ready."""

    status: str


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Errors for a route's documentation."""
    return {status: {"model": ErrorAnswer} for status in statuses}
