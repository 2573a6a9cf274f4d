"""The list of a body that turns append to: its elements in the chain, and where to resume next."""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.core.blocks import FINE_TEXT_BYTES, append
from kvproxy.core.canonical import Canonicaliser, Edits, Whose
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.heads import Fixed
from kvproxy.core.marks import Marks
from kvproxy.core.parted import Elements, Parted, Stretch
from kvproxy.core.pieces import Body
from kvproxy.core.resume import Begun, Point, ResumePoints, hash_first, hash_on, near
from kvproxy.core.spans import Span
from kvproxy.core.types import Chain, Splice

# The last elements of a list are read again next turn: clients move cache marks about in them.
REREAD_ELEMENTS = 3
# What growing took in advance of so few blocks is not worth giving back.
_TRIMMED_BLOCKS = 64
_START = attrgetter("start")


class Reading(Struct, frozen=True):
    """One body being read. `scope` keeps dialects and tenants apart. `fixed`: its head as it counts
    now, where that was not known any more. `anew`: nothing is gone on from."""

    dialect: Dialect
    whose: Whose
    body: Body
    scope: str
    fixed: Fixed | None = None
    anew: bool = False


class Grown(Struct, frozen=True):
    """What reading a list came to; `before`, `firsts` and `starts` as in a Layout."""

    chain: Chain
    splices: list[Splice]
    marks: Marks
    before: int
    firsts: Sequence[int]
    starts: Callable[[int], int]


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
        return _grown(grown, edits, 0, firsts, (elements,))

    def begin(self, reading: Reading, start: Point, parts: Parted) -> Grown:
        """As grow() with all that the list consists of."""
        return self._settle(reading, start, None, (parts.opening, parts.middle), parts.last)

    def grow(
        self, reading: Reading, start: Point, begun: Begun | None, elements: Elements
    ) -> Grown:
        """What is known at `start` goes on; files the point that the next turn resumes at. A
        stretch has few elements, and begun is ahead."""
        if isinstance(elements, Stretch):
            return self._settle(reading, start, begun, (), elements)
        settled = max(len(elements) - REREAD_ELEMENTS, min(len(elements), 1))
        if begun is not None and begun.filed is not start and len(elements) <= REREAD_ELEMENTS:
            # What was filed stays so, and this is farther ahead of it.
            settled = 0
        known = (elements[:settled],) if settled else ()
        return self._settle(reading, start, begun, known, elements[settled:])

    def _settle(
        self,
        reading: Reading,
        start: Point,
        begun: Begun | None,
        known: Sequence[Elements],
        rest: Elements,
    ) -> Grown:
        """`known` is not read again next turn, the `rest` is."""
        grown, edits = start.chain.until(start.blocks), self._canon.edits(reading.whose)
        edits.splices, edits.marks = list(start.splices), start.marks
        led = start.lead is not None and not start.elements
        firsts: list[int] = []
        for elements in known:
            firsts += self._add(reading.dialect, grown, edits, elements, led and not firsts)
        settled = begun.filed if begun is not None else None
        if known:
            settled = _here(start, grown, edits, len(firsts), known[-1])
        firsts += self._add(reading.dialect, grown, edits, rest, led and not firsts)
        if settled is not None and settled.offset >= self._points.smallest:
            ahead = start if start is settled.ahead else None
            if rest:
                ahead = _here(start, grown, edits, len(firsts), rest)
            self._file(reading, settled, ahead, grown, begun)
        return _grown(grown, edits, start.elements, firsts, (*known, rest))

    def _file(
        self,
        reading: Reading,
        settled: Point,
        ahead: Point | None,
        grown: Chain,
        begun: Begun | None,
    ) -> None:
        """Both begin as `grown` does; in place of the one where reading begun."""
        body, skip, before = reading.body, settled.skip, begun and begun.filed
        if settled is before:
            assert begun is not None
            settled = replace(settled, chain=grown)
        else:
            if begun is None:
                hashed = hash_first(body, settled.offset, skip)
            else:
                hashed = hash_on(body, settled.offset, begun)
            digest, digest_near = hashed.digest(), near(body, settled.offset, skip)
            settled = replace(settled, digest=digest, near=digest_near)
            begun = Begun(settled, hashed, settled)
        if ahead is not None:
            ahead = replace(ahead, digest=hash_on(body, ahead.offset, begun).digest())
        settled = replace(settled, ahead=ahead)
        if reading.fixed is not None:
            settled = _with_head(settled, reading.fixed)
        self._points.file(reading.scope, body, settled, before)

    def _add(
        self, dialect: Dialect, grown: Chain, edits: Edits, elements: Elements, led: bool
    ) -> list[int]:
        """Extend `grown` by the elements; the first segment of each."""
        firsts = []
        if led:
            assert not isinstance(elements, Stretch)
            firsts, elements = [len(grown.items)], elements[1:]
        made = dialect.items(elements, edits)
        return firsts + append(grown, made, self._block_bytes, FINE_TEXT_BYTES)


def _here(start: Point, grown: Chain, edits: Edits, count: int, read: Elements) -> Point:
    """Where `count` elements behind `start` end, the last of which are those that were `read`."""
    return replace(
        start,
        offset=read.end if isinstance(read, Stretch) else read[-1].end,
        elements=start.elements + count,
        chain=grown,
        blocks=len(grown),
        splices=tuple(edits.splices),
        marks=edits.marks,
        ahead=None,
    )


def _with_head(settled: Point, fixed: Fixed) -> Point:
    ahead = settled.ahead
    if ahead is not None:
        ahead = replace(ahead, fixed=fixed)
    return replace(settled, ahead=ahead, fixed=fixed)


def _grown(
    grown: Chain, edits: Edits, before: int, firsts: Sequence[int], read: Sequence[Elements]
) -> Grown:
    if len(grown.hashes) > _TRIMMED_BLOCKS:
        grown.trim()
    return Grown(grown, edits.splices, edits.marks, before, firsts, _starts(read))


def _starts(read: Sequence[Elements]) -> Callable[[int], int]:
    """Of each element; in a stretch they are found out when that is asked."""
    if Stretch in map(type, read):
        return lambda index: [span.start for elements in read for span in elements][index]
    return list(map(_START, chain.from_iterable(read))).__getitem__
