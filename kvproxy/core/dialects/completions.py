"""/v1/completions: one prompt, a string or a list of token ids, that grows at its end."""

from collections.abc import Iterator
from typing import Any

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.dialects.base import UnknownShapeError
from kvproxy.core.dialects.openai_shapes import OpenAiErrors
from kvproxy.core.dialects.prompt import frame
from kvproxy.core.parted import Elements
from kvproxy.core.segments import Segment, segment
from kvproxy.core.spans import Span

_PROMPT = msgspec.json.Decoder(str | list[str | int])


class Completions(OpenAiErrors):
    name = "completions"
    head_members = ("cache_salt", "prompt")
    growing = ""
    continues = ""
    begins = b""
    listing = None
    preamble = ()

    def part(self, name: str, member: Span, edits: Edits) -> list[Segment]:
        if name != "prompt":
            return frame(name, member, edits)
        try:
            prompt = _PROMPT.decode(member.raw)
        except msgspec.ValidationError as error:
            raise UnknownShapeError(f"prompt: {error}") from error
        return [segment("", [_text(prompt)])]

    def leads(self, element: Span) -> bool:
        return False

    def items(self, elements: Elements, edits: Edits) -> Iterator[list[Segment]]:
        raise AssertionError("a completion prompt is no list of messages")


def _text(prompt: str | list[Any]) -> bytes:
    """Text of the prompt that counts for placement: of a batch, the first."""
    if isinstance(prompt, str):
        return prompt.encode()
    if prompt and isinstance(prompt[0], str):
        return str(prompt[0]).encode()
    return msgspec.json.encode(prompt)
