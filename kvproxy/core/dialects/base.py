"""What a dialect must be able to say about a body it is given as spans of its members."""

from collections.abc import Mapping
from typing import Protocol

from kvproxy.core.canonical import Edits
from kvproxy.core.errors import ProxyError
from kvproxy.core.segments import Segment
from kvproxy.core.spans import Span

Members = Mapping[str, Span]


class UnknownShapeError(Exception):
    """Valid JSON that this dialect does not understand: it passes untouched and unhashed."""


class Dialect(Protocol):
    """`growing` names the member that turns append to, or "" when nothing grows; `head_members`
    are all members that head() looks at, and the model."""

    @property
    def name(self) -> str: ...

    @property
    def head_members(self) -> tuple[str, ...]: ...

    @property
    def growing(self) -> str: ...

    def head(self, members: Members, edits: Edits) -> list[Segment]:
        """Segments that stand before the growing list in the prompt."""

    def item(self, element: Span, edits: Edits) -> Segment:
        """The segment of one element of the growing list."""

    def error_body(self, error: ProxyError) -> bytes: ...

    def stream_error(self, error: ProxyError) -> bytes:
        """The bytes that end a started stream with an error this dialect's clients notice."""
