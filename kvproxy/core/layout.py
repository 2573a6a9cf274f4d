"""Where in a body the segments of its prompt stand: JSON pointers and byte offsets for people."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kvproxy.core.spans import Span


class Place(NamedTuple):
    """`offset` is the byte where the value begins."""

    pointer: str
    offset: int


class Layout(NamedTuple):
    """`parts`: members before the growing list, with how many segments each has, in prompt order.
    `elements`: (first segment, index, byte offset) of the elements that were read this time."""

    parts: Sequence[tuple[str, int]]
    elements: Sequence[tuple[int, int, int]]

    def place(self, segment: int, growing: str, members: Mapping[str, Span]) -> Place | None:
        """Of a segment of the prompt; None for one before where reading resumed."""
        first = 0
        for name, count in self.parts:
            if segment < first + count:
                if name == growing and self.elements:
                    return Place(f"/{name}/0", members[name].start)
                index = f"/{segment - first}" if count > 1 else ""
                return Place(f"/{name}{index}", members[name].start)
            first += count
        found = [each for each in self.elements if each[0] <= segment]
        return Place(f"/{growing}/{found[-1][1]}", found[-1][2]) if found else None


NOWHERE = Layout((), ())
