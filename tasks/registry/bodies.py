"""What a request to a served model may say, checked before anything of it is used.

The kept server takes any JSON object: fields of a wrong type end in tracebacks, and a request can
bring its own chat template or search with a million beams. Here a body is one of a few records,
with bounds; what the server would ignore in silence is refused by name, unless it changes nothing.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

BODY_BYTES = 2**20
CHARACTERS_A_TOKEN = 64
"""A longer text cannot fit the context, so it is not even tokenised."""

COLDEST = 0.01
"""Lower temperatures, 0 apart, overflow the logits."""

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000)]
Stop: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
TokenId: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]
Zero: TypeAlias = Annotated[float, Field(ge=0.0, le=0.0)]
One: TypeAlias = Annotated[float, Field(ge=1.0, le=1.0)]

COMPLETIONS = "/v1/completions"
UPDATE = "/update_weights_from_disk"
"""SGLang's route, and its fields."""


class Refusal(Exception):
    """A request is not served; said as OpenAI's API says it, which its clients turn into errors.

    Attributes:
        param: The field that is wrong; empty where it is none.
        code: OpenAI's word for the case; empty where it has none.
    """

    def __init__(self, status: int, message: str, *, param: str = "", code: str = "") -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def content(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {
                "message": str(self),
                "type": kind,
                "param": self.param or None,
                "code": self.code or None,
            }
        }


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Strict):
    """A piece of a message; pictures and sounds are not for language models."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """One message of a conversation."""

    role: Annotated[str, Field(min_length=1, max_length=32)]
    content: str | list[TextPart]
    name: Name | None = None

    @property
    def characters(self) -> int:
        """Of its text."""
        parts = [self.content] if isinstance(self.content, str) else [p.text for p in self.content]
        return sum(map(len, parts))


class _Completion(_Strict):
    """What both kinds of requests have; None is the same as absent."""

    model: Name | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=100.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    frequency_penalty: Annotated[float, Field(gt=-1.0, le=2.0)] | None = None
    seed: Seed | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=8)] | None = None
    stream: bool | None = None
    # Sent by clients as a matter of course, and served in this one way:
    n: Literal[1] | None = None
    presence_penalty: Zero | None = None
    stream_options: dict[str, bool] | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _no_cold_sampling(self) -> "_Completion":
        if self.temperature and self.temperature < COLDEST:
            raise ValueError(f"temperature is 0 (greedy decoding) or at least {COLDEST}")
        return self


class ChatRequest(_Completion):
    """To /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    logprobs: Literal[False] | None = None

    @property
    def characters(self) -> int:
        """Of all messages."""
        return sum(message.characters for message in self.messages)


class TextRequest(_Completion):
    """To /v1/completions."""

    prompt: Annotated[str, Field(min_length=1)]
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None

    @property
    def characters(self) -> int:
        """Of the prompt."""
        return len(self.prompt)


class TokenRequest(_Strict):
    """To /v1/completions, with a prompt of token ids: sampled as in training, from them alone.

    The fields are those that vLLM and SGLang have in common.
    """

    model: Name | None = None
    prompt: Annotated[list[TokenId], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1, le=2**20)]
    min_tokens: Annotated[int, Field(ge=0, le=2**20)] = 0
    stop_token_ids: Annotated[list[TokenId], Field(max_length=1)] = []
    temperature: Annotated[float, Field(ge=COLDEST, le=100.0)] = 1.0
    seed: Seed
    # Served in this one way:
    return_token_ids: Literal[True]
    logprobs: Literal[0]
    top_k: Literal[-1, 0] | None = None
    top_p: One | None = None
    min_p: Zero | None = None
    repetition_penalty: One | None = None
    n: Literal[1] | None = None
    stream: Literal[False] | None = None

    @model_validator(mode="after")
    def _shortest_fits_longest(self) -> "TokenRequest":
        if self.min_tokens >= self.max_tokens:
            raise ValueError(
                f"min_tokens {self.min_tokens} before EOS leaves none of max_tokens "
                f"{self.max_tokens}"
            )
        return self


class UpdateRequest(_Strict):
    """To /update_weights_from_disk: other weights for the served model."""

    model_path: Annotated[str, Field(min_length=1, max_length=4096)]
    weight_version: Annotated[str, Field(pattern=r"[!-~]{1,200}")] = "default"
    flush_cache: Literal[True] | None = None


Request: TypeAlias = ChatRequest | TextRequest | TokenRequest | UpdateRequest

BODIES: dict[str, type[Request]] = {
    "/v1/chat/completions": ChatRequest,
    COMPLETIONS: TextRequest,
    UPDATE: UpdateRequest,
}
"""By the path that they are sent to; a completion of token ids is a `TokenRequest`."""

UNUSED = {"n", "best_of", "echo", "logprobs", "presence_penalty", "stream_options", "user"}


def checked_body(path: str, body: bytes, *, context: int, name: str) -> bytes:
    """Check the body of a request, and write it again with nothing but what is used.

    Args:
        path: A key of `BODIES`.
        context: The model's, in tokens.
        name: The model's.

    Raises:
        Refusal: It is no such request, or asks for another model.
    """
    kind = TokenRequest if path == COMPLETIONS and _has_token_ids(body) else BODIES[path]
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_input=False)
        said = [f"{_place(one) or 'body'}: {one['msg']}" for one in found[:3]]
        raise Refusal(400, "; ".join(said)[:500], param=_place(found[0])) from error
    if isinstance(request, UpdateRequest):
        return request.model_dump_json().encode()
    if request.model not in (None, name):
        raise Refusal(
            404, f"there is no model {request.model!r} here, only {name!r}",
            param="model", code="model_not_found",
        )  # fmt: skip
    most = CHARACTERS_A_TOKEN * context
    if not isinstance(request, TokenRequest) and request.characters > most:
        raise Refusal(
            400,
            f"the prompt has {request.characters} characters, at most {most} were wanted for the "
            f"model's context of {context} tokens; shorten it",
            param="prompt" if isinstance(request, TextRequest) else "messages",
            code="context_length_exceeded",
        )
    return request.model_dump_json(exclude=UNUSED, exclude_none=True).encode()


def _has_token_ids(body: bytes) -> bool:
    try:
        found = from_json(body)
    except ValueError:
        return False
    return isinstance(found, dict) and isinstance(found.get("prompt"), list)


def _place(error: Any) -> str:
    return ".".join(str(one)[:40] for one in error["loc"])
