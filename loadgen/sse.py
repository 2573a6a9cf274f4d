"""Server-sent events as the four APIs stream them: one JSON payload a `data:` line."""

from msgspec import DecodeError, Raw, Struct, ValidationError
from msgspec import json as msgspec_json

EVENT_BYTES_MAX = 4 << 20
DONE = b"[DONE]"
# Types of the last event where no [DONE] follows.
_LAST = {"message_stop", "response.completed", "response.incomplete", "response.failed"}
# Answers that the engine did not finish.
_BROKEN_OFF = ("abort", "error")
# Raw JSON that says nothing, the first where the field is absent.
_NOTHING = (b"", b"null", b"[]")


class StreamError(Exception):
    """The answer is not the event stream that was asked for."""


class CachedDetails(Struct):
    cached_tokens: int | None = None


class Usage(Struct):
    """Tokens of an answer under the names of all four APIs; `input_tokens` leaves out what was
    read from or written to a cache where those are given apart."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: CachedDetails | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: CachedDetails | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    @property
    def prompt(self) -> int | None:
        if self.prompt_tokens is not None or self.input_tokens is None:
            return self.prompt_tokens
        apart = (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        return self.input_tokens + apart

    @property
    def completion(self) -> int | None:
        return self.completion_tokens if self.completion_tokens is not None else self.output_tokens

    @property
    def cached(self) -> int | None:
        if self.cache_read_input_tokens is not None:
            return self.cache_read_input_tokens
        details = self.prompt_tokens_details or self.input_tokens_details
        return details.cached_tokens if details else None


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    tool_calls: Raw = Raw()

    def size(self) -> int:
        """Characters of generated text in this delta, which stand for its tokens."""
        texts = (self.content, self.reasoning_content, self.reasoning, self.text, self.thinking)
        size = sum(len(text) for text in (*texts, self.partial_json) if text)
        tools = bytes(self.tool_calls)
        return size + (len(tools) if tools not in _NOTHING else 0)


class _Choice(Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    def size(self) -> int:
        return (self.delta.size() if self.delta else 0) + len(self.text or "")


class _Whole(Struct):
    """The message or response that some events carry."""

    usage: Usage | None = None
    error: Raw = Raw()


class StreamEvent(Struct, rename={"own_usage": "usage", "own_error": "error"}):
    """The part of an event that measuring needs."""

    type: str = ""
    choices: list[_Choice] = []
    delta: _Delta | str | None = None
    message: _Whole | None = None
    response: _Whole | None = None
    own_usage: Usage | None = None
    own_error: Raw = Raw()

    @property
    def last(self) -> bool:
        return self.type in _LAST

    @property
    def usage(self) -> Usage | None:
        whole = self.message or self.response
        return self.own_usage or (whole.usage if whole else None)

    def size(self) -> int:
        """Characters of generated text, 0 for events that carry none."""
        size = sum(choice.size() for choice in self.choices)
        if isinstance(self.delta, str):
            size += len(self.delta)
        elif self.delta is not None:
            size += self.delta.size()
        return size

    def failure(self) -> str:
        """The error object as text, or how a choice ended that the engine did not finish; empty
        when all is well."""
        error = bytes(self.own_error)
        if error in _NOTHING and self.response is not None:
            error = bytes(self.response.error)
        if error not in _NOTHING:
            return error.decode(errors="replace")
        ends = [each.finish_reason for each in self.choices if each.finish_reason in _BROKEN_OFF]
        return f"finish_reason {ends[0]}" if ends else ""


_decoder = msgspec_json.Decoder(StreamEvent)


def parse_event(payload: bytes) -> StreamEvent:
    try:
        return _decoder.decode(payload)
    except (DecodeError, ValidationError, UnicodeDecodeError) as error:
        raise StreamError(f"not an event of a stream: {error}") from error


class EventStream:
    """Cuts a byte stream into the payloads of its `data:` lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        if self._rest:
            data = self._rest + data
        elif (
            data.startswith(b"data: {") and data.find(b"\n") == data.find(b"\n\n") == len(data) - 2
        ):
            return [data[6:-2]]  # one whole event, as most pieces are
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > EVENT_BYTES_MAX:
            raise StreamError(f"an event of more than {EVENT_BYTES_MAX} bytes")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
