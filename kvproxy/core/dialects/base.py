"""What a dialect must be able to say about a body it is given as spans of its members."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.errors import ProxyError
from kvproxy.core.parted import Elements
from kvproxy.core.segments import Segment
from kvproxy.core.spans import Span

Members = Mapping[str, Span]


class UnknownShapeError(Exception):
    """Valid JSON that this dialect does not understand: it passes untouched and unhashed."""


class ErrorShape(Protocol):
    """How the clients of one dialect are told that something failed."""

    def error_body(self, error: ProxyError) -> bytes: ...

    def stream_error(self, error: ProxyError) -> bytes:
        """The bytes that end a started stream with an error these clients notice."""


class Dialect(ErrorShape, Protocol):
    """`growing` names the member that turns append to, or "" when nothing grows. `head_members`
    are those before it in the prompt, in the order a template prints them; the name of the growing
    one stands for its first element, where that leads the prompt. `preamble` are the events a
    stream may open with before the engine has computed anything; `continues` is the member that
    names an earlier answer whose conversation goes on, or ""."""

    @property
    def name(self) -> str: ...

    @property
    def head_members(self) -> tuple[str, ...]: ...

    @property
    def growing(self) -> str: ...

    @property
    def continues(self) -> str: ...

    @property
    def begins(self) -> bytes:
        """What an element of the growing list usually begins with, and nothing inside it; b"" where
        there is no such."""

    @property
    def listing(self) -> "msgspec.json.Decoder[list[Any]] | None":
        """Decodes several of those elements at once."""

    @property
    def preamble(self) -> tuple[bytes, ...]: ...

    def part(self, name: str, member: Span, edits: Edits) -> list[Segment]:
        """Segments of one of the head members."""

    def leads(self, element: Span) -> bool:
        """Whether this first element of the growing list is printed with the head."""

    def items(self, elements: Elements, edits: Edits) -> Iterator[list[Segment]]:
        """The segments of each of these elements of the growing list: one at a time, so that a long
        one is used while the processor's caches have it. Raises UnknownShapeError."""
