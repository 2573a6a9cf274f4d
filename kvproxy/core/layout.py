"""Where in a body the segments of its prompt stand: JSON pointers and byte offsets for people."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from kvproxy.core.spans import Span


class Place(NamedTuple):
    """`offset` is the byte where the value begins."""

    pointer: str
    offset: int


class Layout(Struct, frozen=True):
    """`parts`: members before the growing list, with how many segments each has, in prompt order.
    Of the elements of that list that were read this time, behind `before` others, `firsts` are the
    first segments and `starts` tells the byte offset of each. `lead` is that of an element among
    the parts."""

    parts: Sequence[tuple[str, int]]
    before: int
    firsts: Sequence[int]
    starts: Callable[[int], int]
    lead: int

    def place(self, segment: int, growing: str, members: Mapping[str, Span]) -> Place | None:
        """Of a segment of the prompt; None for one before where reading resumed."""
        first = 0
        for name, count in self.parts:
            if segment < first + count:
                if name == growing:
                    return Place(f"/{name}/0", self.lead)
                index = f"/{segment - first}" if count > 1 else ""
                return Place(f"/{name}{index}", members[name].start)
            first += count
        at = bisect_right(self.firsts, segment) - 1
        return Place(f"/{growing}/{self.before + at}", self.starts(at)) if at >= 0 else None


NOWHERE = Layout((), 0, (), int, 0)
