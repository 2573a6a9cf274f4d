"""What stands before the growing list: tools, system text, template arguments.

Conversations share it and repeat it every turn, so its chain is remembered by the exact bytes of
its members. Each member is looked up on its own: one that changes from turn to turn, like a system
text with a time in it, does not make the tools beside it be read again.
"""

from collections.abc import Sequence
from typing import NamedTuple

from xxhash import xxh3_128_digest

from kvproxy.core.blocks import FINE_TEXT_BYTES, extend, root
from kvproxy.core.canonical import Canonicaliser, Whose
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.lru import ByteLru
from kvproxy.core.segments import Segment
from kvproxy.core.spans import Span
from kvproxy.core.types import Chain, Splice

_MAX_BYTES = 32 * 2**20
_ENTRY_BYTES = 200
_BLOCK_BYTES = 16


class _Part(NamedTuple):
    """One member: `meaning` is a digest of its segments, splices are relative to its start."""

    meaning: bytes
    splices: list[Splice]


class Head(NamedTuple):
    """`skip` spans the splices of text that changes by itself; it is empty where there is none."""

    chain: Chain
    splices: list[Splice]
    skip: tuple[int, int]


class Heads:
    def __init__(self, canon: Canonicaliser, block_bytes: int) -> None:
        self._canon = canon
        self._block_bytes = block_bytes
        self._parts: ByteLru[tuple[str, str, bytes], _Part] = ByteLru(_MAX_BYTES)
        self._chains: ByteLru[tuple[str, str, bytes], Chain] = ByteLru(_MAX_BYTES)

    def head(
        self, dialect: Dialect, whose: Whose, model: str, members: Sequence[tuple[str, Span]]
    ) -> Head:
        """`members` in prompt order, by name. The chain is shared: copy it before it grows."""
        splices: list[Splice] = []
        meanings = []
        scope = self._canon.scope(dialect.name, whose)
        read: dict[str, list[Segment]] = {}
        for name, span in members:
            key = (scope, name, xxh3_128_digest(span.raw))
            part = self._parts.get(key)
            if part is None:
                part, read[name] = self._read(dialect, whose, name, span)
                size = sum(len(splice.new) for splice in part.splices)
                self._parts.put(key, part, size + _ENTRY_BYTES)
            meanings.append(part.meaning)
            splices += [shifted(splice, span.start) for splice in part.splices]
        whole = (whose.tenant, model, b"".join(meanings))
        chain = self._chains.get(whole)
        if chain is None:
            chain = Chain(root=root(model))
            for name, span in members:
                segments = read.get(name) or self._read(dialect, whose, name, span)[1]
                extend(chain, segments, self._block_bytes, FINE_TEXT_BYTES)
            self._chains.put(whole, chain, len(chain) * _BLOCK_BYTES + _ENTRY_BYTES)
        return Head(chain, splices, self._skip(splices))

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
        return _Part(meaning, splices), segments


def shifted(splice: Splice, by: int) -> Splice:
    return Splice(splice.start + by, splice.end + by, splice.new, splice.kind)
