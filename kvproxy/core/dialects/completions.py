"""/v1/completions: one prompt, a string or a list of token ids, that grows at its end."""

from typing import Any

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.dialects.base import Members, UnknownShapeError
from kvproxy.core.dialects.openai_shapes import stream_error
from kvproxy.core.errors import ProxyError, openai_body
from kvproxy.core.segments import Segment, segment
from kvproxy.core.spans import Span

_PROMPT = msgspec.json.Decoder(str | list[str | int])


class Completions:
    name = "completions"
    head_members = ("model", "prompt", "cache_salt")
    growing = ""

    def head(self, members: Members, edits: Edits) -> list[Segment]:
        salt = members["cache_salt"].raw.decode() if "cache_salt" in members else ""
        if "prompt" not in members:
            return []
        try:
            prompt = _PROMPT.decode(members["prompt"].raw)
        except msgspec.ValidationError as error:
            raise UnknownShapeError(f"prompt: {error}") from error
        return [segment(salt, [_text(prompt)])]

    def item(self, element: Span, edits: Edits) -> Segment:
        raise AssertionError("a completion prompt is no list of messages")

    def error_body(self, error: ProxyError) -> bytes:
        return openai_body(error)

    def stream_error(self, error: ProxyError) -> bytes:
        return stream_error(error)


def _text(prompt: str | list[Any]) -> bytes:
    """Text of the prompt that counts for placement: of a batch, the first."""
    if isinstance(prompt, str):
        return prompt.encode()
    if prompt and isinstance(prompt[0], str):
        return str(prompt[0]).encode()
    return msgspec.json.encode(prompt)
