"""What stands before the growing list: tools, system text, template arguments.

Conversations share it and repeat it every turn, so its chain is remembered by the exact bytes of
its members. Each member is looked up on its own: one that changes from turn to turn, like a system
text with a time in it, does not make the tools beside it be read again.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from xxhash import xxh3_128_digest

from kvproxy.core.blocks import FINE_TEXT_BYTES, extend, root
from kvproxy.core.canonical import Canonicaliser, Whose
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.lru import ByteLru
from kvproxy.core.marks import NO_MARKS, Marks
from kvproxy.core.segments import Segment
from kvproxy.core.spans import Span
from kvproxy.core.types import Chain, Splice

# With their keys and places in the tables; measured, as are those of all that is bounded in bytes.
_PART_BYTES, _SEEN_BYTES, _CHAIN_BYTES = 520, 200, 800
_BLOCK_BYTES, _ITEM_BYTES = 12, 12
_LASTING_MAX = 256


_Members = Sequence[tuple[str, Span]]


class _Part(NamedTuple):
    """One member: `meaning` is a digest of its segments, splices are relative to its start."""

    meaning: bytes
    segments: int
    splices: list[Splice]
    marks: Marks


class Head(NamedTuple):
    """`meaning` is equal for heads that a model sees as one. `parts` are the members in prompt
    order and how many segments each has, `read` the segments of those that were not known; `skip`
    spans the splices of text that changes by itself, and is empty where there is none."""

    meaning: bytes
    splices: list[Splice]
    parts: list[tuple[str, int]]
    read: dict[str, list[Segment]]
    skip: tuple[int, int]
    marks: Marks


class Fixed(NamedTuple):
    """The head of bodies for `model` that begin alike, as it counts in this `era` of Heads."""

    model: str
    head: Head
    era: int


class ReadingMemory(NamedTuple):
    """Bytes for what bodies begin with, and for responses that may be gone on from."""

    heads_bytes: int = 64 * 2**20
    responses_bytes: int = 32 * 2**20


READING_MEMORY = ReadingMemory()


class Heads:
    def __init__(self, canon: Canonicaliser, block_bytes: int, max_bytes: int = 2**26) -> None:
        self._canon = canon
        self._block_bytes = block_bytes
        self._parts: ByteLru[tuple[str, str, bytes], _Part] = ByteLru(max_bytes // 2)
        self._chains: ByteLru[bytes, Chain | None] = ByteLru(max_bytes // 2)
        self._lasting: dict[bytes, Fixed] = {}
        # Of what was read before another one began nothing counts any more.
        self.era = 0

    def clear(self) -> None:
        self.era += 1
        self._parts.clear()
        self._chains.clear()

    def head(self, dialect: Dialect, whose: Whose, model: str, members: _Members) -> Head:
        """`members` in prompt order, by name."""
        if not members:
            return _bare(whose.tenant, model)
        splices: list[Splice] = []
        meanings = [f"{whose.tenant}\0{model}\0".encode()]
        parts, marks = [], NO_MARKS
        scope = self._canon.scope(dialect.name, whose)
        read: dict[str, list[Segment]] = {}
        for name, span in members:
            key = (scope, name, xxh3_128_digest(span.raw))
            part = self._parts.get(key)
            if part is None:
                part, read[name] = self._read(dialect, whose, name, span)
                size = sum(len(splice.new) for splice in part.splices)
                self._parts.put(key, part, size + _PART_BYTES)
            if part.segments:
                meanings.append(part.meaning)
            parts.append((name, part.segments))
            splices += [shifted(splice, span.start) for splice in part.splices]
            if part.marks.number:
                marks = marks.and_(part.marks)
        meaning = xxh3_128_digest(b"".join(meanings))
        return Head(meaning, splices, parts, read, self._skip(splices), marks)

    def fixed(self, model: str, head: Head) -> Fixed:
        """As a conversation may keep it: without what was read, and the same object for all."""
        fixed = Fixed(model, head._replace(read={}), self.era)
        known = self._lasting.get(head.meaning)
        if known == fixed:
            return known
        if len(self._lasting) >= _LASTING_MAX:
            self._lasting.clear()
        self._lasting[head.meaning] = fixed
        return fixed

    def chain(
        self, dialect: Dialect, whose: Whose, model: str, members: _Members, head: Head
    ) -> Chain:
        """The chain of `head`, which was read from `members`; it is shared: copy it to grow it.

        It is kept once a second conversation begins so: most that begin alone stay alone.
        """
        known = self._chains.get(head.meaning)
        if known is not None:
            return known
        chain = Chain(root=root(model))
        for name, span in members:
            segments = head.read.get(name) or self._read(dialect, whose, name, span)[1]
            extend(chain, segments, self._block_bytes, FINE_TEXT_BYTES)
        again = head.meaning in self._chains
        if not again:
            self._chains.put(head.meaning, None, _SEEN_BYTES)
            return chain
        chain.trim()
        size = len(chain) * _BLOCK_BYTES + len(chain.items) * _ITEM_BYTES
        self._chains.put(head.meaning, chain, size + _CHAIN_BYTES)
        return chain

    def _skip(self, splices: Sequence[Splice]) -> tuple[int, int]:
        moving = [each for each in splices if each.kind in self._canon.volatile.names]
        if not moving:
            return (0, 0)
        return (min(each.start for each in moving), max(each.end for each in moving))

    def _read(
        self, dialect: Dialect, whose: Whose, name: str, span: Span
    ) -> tuple[_Part, list[Segment]]:
        edits = self._canon.edits(whose)
        segments = dialect.part(name, span, edits)
        meaning = xxh3_128_digest(b"".join(segment.data for segment in segments))
        splices = [shifted(splice, -span.start) for splice in edits.splices]
        return _Part(meaning, len(segments), splices, edits.marks), segments


@lru_cache(1024)
def _bare(tenant: str, model: str) -> Head:
    """Of a body with nothing before its list, as most small ones are."""
    meaning = xxh3_128_digest(f"{tenant}\0{model}\0".encode())
    return Head(meaning, [], [], {}, (0, 0), NO_MARKS)


def shifted(splice: Splice, by: int) -> Splice:
    return Splice(splice.start + by, splice.end + by, splice.new, splice.kind)
