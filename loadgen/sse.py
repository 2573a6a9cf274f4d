"""Server-sent events as a chat endpoint streams them: one JSON payload a `data:` line."""

from msgspec import DecodeError, Raw, Struct, ValidationError
from msgspec import json as msgspec_json

EVENT_BYTES_MAX = 4 << 20
DONE = b"[DONE]"
# Raw JSON that says nothing, the first where the field is absent.
_NOTHING = (b"", b"null", b"[]")


class StreamError(Exception):
    """The answer is not the event stream that was asked for."""


class PromptDetails(Struct):
    cached_tokens: int | None = None


class Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Raw = Raw()

    def size(self) -> int:
        """Bytes of generated text in this delta, which stand for its tokens."""
        texts = (self.content, self.reasoning_content, self.reasoning)
        size = sum(len(text) for text in texts if text)
        tools = bytes(self.tool_calls)
        return size + (len(tools) if tools not in _NOTHING else 0)


class _Choice(Struct):
    delta: _Delta | None = None


class ChatEvent(Struct):
    """The part of a chat chunk that measuring needs."""

    choices: list[_Choice] = []
    usage: Usage | None = None
    error: Raw = Raw()

    def size(self) -> int:
        return sum(choice.delta.size() for choice in self.choices if choice.delta)

    def failure(self) -> str:
        """The error object as text, empty when there is none."""
        error = bytes(self.error)
        return "" if error in _NOTHING else error.decode(errors="replace")


_decoder = msgspec_json.Decoder(ChatEvent)


def parse_event(payload: bytes) -> ChatEvent:
    try:
        return _decoder.decode(payload)
    except (DecodeError, ValidationError, UnicodeDecodeError) as error:
        raise StreamError(f"not a chat chunk: {error}") from error


class EventStream:
    """Cuts a byte stream into the payloads of its `data:` lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        if self._rest:
            data = self._rest + data
        elif data.startswith(b"data: {") and data.find(b"\n") == len(data) - 2:
            return [data[6:-2]]  # one whole event, as most pieces are
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > EVENT_BYTES_MAX:
            raise StreamError(f"an event of more than {EVENT_BYTES_MAX} bytes")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
