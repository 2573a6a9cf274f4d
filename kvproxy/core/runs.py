"""What a cache of prefixes consists of: consecutive blocks that were last used together."""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

# Of runs that are held no more, to which nothing is added.
_NO_HASHES, _NO_ENDS = array("Q"), array("I")


class Later(Protocol):
    """Where the blocks of a chain end behind the first `held`, for when somebody asks: most runs
    are evicted whole, and nobody ever does."""

    held: int

    def ends(self, blocks: int, least: int) -> "array[int]":
        """Of so many. They never fall, nor below `least`."""

    def reach(self, blocks: int, end: int, position: int) -> tuple[int, int]:
        """How many of so many, the last of which ends at `end`, end by an earlier `position`, and
        where the last of these does."""


class Run:
    """Consecutive blocks that were last used together.

    Sizes are positions along the chain: block i fills (ends[i-1], ends[i]], the first one from
    where the parent ends. So a run is built, cut and split by slicing alone.
    """

    __slots__ = (
        "_ends",
        "children",
        "end",
        "hashes",
        "last_use",
        "later",
        "parent",
        "pins",
        "retention_s",
        "used_at",
    )

    def __init__(
        self, parent: "Run | None", hashes: "array[int]", ends: "array[int]", end: int
    ) -> None:
        self.parent = parent
        self.hashes = hashes
        # Of all blocks, or if there is `later` of the first.
        self._ends = ends
        self.later: Later | None = None
        self.end = end
        self.children: dict[int, Run] = {}
        self.last_use = 0
        self.used_at = 0.0
        self.retention_s = 0.0
        self.pins = 0

    @property
    def start(self) -> int:
        return self.parent.end if self.parent is not None else 0

    @property
    def first_end(self) -> int:
        """Where the first block ends, or may at most."""
        return self._ends[0] if self._ends else self.end

    @property
    def ends(self) -> "array[int]":
        ends, later = self._ends, self.later
        if later is not None:
            self.later = None
            blocks = len(self.hashes) - len(ends)
            ends += later.ends(blocks, ends[-1] if ends else self.start)
            assert len(ends) == len(self.hashes)
            _end_at(ends, self.end)
        return ends

    @ends.setter
    def ends(self, ends: "array[int]") -> None:
        self._ends, self.later = ends, None

    def empty(self) -> None:
        """It is held no more."""
        self.hashes, self.ends = _NO_HASHES, _NO_ENDS

    def put_off(self, later: Later) -> None:
        """It tells where the blocks end that were added last, and those of which that is not known
        yet either."""
        if self.later is not None:
            later.held = self.later.held
        self.later = later

    def move_end(self, position: int) -> None:
        """The last block ends there, and none before it ends later."""
        position = max(position, self.start)
        if self.later is None or (self._ends and self._ends[-1] > position):
            _end_at(self.ends, position)
        self.end = position

    def cut(self, position: int, most: int) -> int:
        """Let go of the blocks that end behind `position`, and of those beyond `most`; how many are
        left."""
        later, count, known = self.later, len(self.hashes), len(self._ends)
        start = self._ends[-1] if known else self.start
        if later is None or most < count or not start <= position < self.end:
            ends = self.ends
            keep = min(bisect_right(ends, position), most)
            del ends[keep:]
            self.end = ends[-1] if keep else self.start
        else:
            more, end = later.reach(count - known, self.end, position)
            keep, self.end = known + more, max(start, end) if more else start
            if not more:
                self.later = None
        del self.hashes[keep:]
        return keep

    def common(self, hashes: Sequence[int], at: int) -> int:
        """How many of this run's blocks equal hashes[at:]; a chain that differs stays different."""
        low, high = 0, len(self.hashes)
        high = min(high, len(hashes) - at)
        if high and self.hashes[high - 1] == hashes[at + high - 1]:
            return high
        while low < high:
            middle = (low + high) // 2
            if self.hashes[middle] == hashes[at + middle]:
                low = middle + 1
            else:
                high = middle
        return low


def _end_at(ends: "array[int]", position: int) -> None:
    """The last one is there, and none before it is behind it."""
    at = bisect_right(ends, position)
    ends[at:] = array("I", [position]) * (len(ends) - at)
    ends[-1] = position
