"""The list of a body that turns append to: its elements in the chain, and where to resume next."""

from collections.abc import Sequence
from itertools import accumulate, chain
from operator import attrgetter

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.core.blocks import FINE_TEXT_BYTES, extend
from kvproxy.core.canonical import Canonicaliser, Edits, Whose
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.marks import Marks
from kvproxy.core.resume import Begun, Point, ResumePoints, hash_first, hash_on, near
from kvproxy.core.spans import Span
from kvproxy.core.types import Chain, Splice

# The last elements of a list are read again next turn: clients move cache marks about in them.
_REREAD_ELEMENTS = 3
# What growing took in advance of so few blocks is not worth giving back.
_TRIMMED_BLOCKS = 64
_START = attrgetter("start")


class Reading(Struct, frozen=True):
    """One body being read. `scope` keeps dialects and tenants apart."""

    dialect: Dialect
    whose: Whose
    body: bytes
    scope: str


class Grown(Struct, frozen=True):
    """What reading a list came to; `before`, `firsts` and `starts` as in a Layout."""

    chain: Chain
    splices: list[Splice]
    marks: Marks
    before: int
    firsts: Sequence[int]
    starts: Sequence[int]


class Growing:
    """Files what it comes to in `points`."""

    def __init__(self, canon: Canonicaliser, points: ResumePoints, block_bytes: int) -> None:
        self._canon = canon
        self._points = points
        self._block_bytes = block_bytes

    def append(
        self, reading: Reading, before: Chain, elements: Sequence[Span], *, led: bool
    ) -> Grown:
        """A copy of `before`, of which the first element is part if it `led`, goes on."""
        grown, edits = before.copy(), self._canon.edits(reading.whose)
        firsts = self._add(reading.dialect, grown, edits, elements, led)
        return _grown(grown, edits, elements, 0, firsts)

    def grow(
        self, reading: Reading, start: Point, begun: Begun | None, elements: Sequence[Span]
    ) -> Grown:
        """What is known at `start` goes on; files the point that the next turn resumes at."""
        grown, edits = start.chain.until(start.blocks), self._canon.edits(reading.whose)
        edits.splices, edits.marks = list(start.splices), start.marks
        leads = start.lead is not None and not start.elements
        settled = max(len(elements) - _REREAD_ELEMENTS, min(len(elements), 1))
        if not settled or elements[settled - 1].end < self._points.smallest:
            firsts = self._add(reading.dialect, grown, edits, elements, leads)
            return _grown(grown, edits, elements, start.elements, firsts)
        firsts = self._add(reading.dialect, grown, edits, elements[:settled], leads)
        offset = elements[settled - 1].end
        if begun is None:
            hashed = hash_first(reading.body, offset, start.skip)
        else:
            hashed = hash_on(reading.body, offset, begun)
        point = replace(
            start,
            offset=offset,
            elements=start.elements + settled,
            digest=hashed.digest(),
            near=near(reading.body, offset, start.skip),
            chain=grown,
            blocks=len(grown),
            splices=list(edits.splices),
            marks=edits.marks,
        )
        self._points.file(reading.scope, reading.body, point, begun and begun.point)
        firsts += self._add(reading.dialect, grown, edits, elements[settled:], False)
        return _grown(grown, edits, elements, start.elements, firsts)

    def _add(
        self, dialect: Dialect, grown: Chain, edits: Edits, elements: Sequence[Span], led: bool
    ) -> list[int]:
        """Extend `grown` by the elements; the first segment of each."""
        made = dialect.items(elements[1:] if led else elements, edits)
        if led:
            made.insert(0, [])
        firsts = list(accumulate(map(len, made), initial=len(grown.items)))
        extend(grown, chain.from_iterable(made), self._block_bytes, FINE_TEXT_BYTES)
        return firsts[:-1]


def _grown(
    chain: Chain, edits: Edits, elements: Sequence[Span], before: int, firsts: Sequence[int]
) -> Grown:
    if len(chain.hashes) > _TRIMMED_BLOCKS:
        chain.trim()
    starts = list(map(_START, elements))
    return Grown(chain, edits.splices, edits.marks, before, firsts, starts)
