"""Where reading may resume: a conversation's earlier turn found inside the new body, by content.

A point says: the first `offset` bytes of a body with this digest end right behind an element of its
growing list, and up to there the chain is this one. Hashing runs at memory speed, so comparing one
digest replaces parsing everything again. No body is kept. Points are found without any session id:
each is filed under a hash of its first 2^k bytes, the largest k that fits.
"""

from collections import OrderedDict
from typing import NamedTuple

from xxhash import xxh3_64_intdigest, xxh3_128_digest

from kvproxy.core.types import Chain, Splice

_SMALLEST_LOG2 = 9
# Conversations that begin alike share a key until they pass the next power of two: those with the
# same tools and system text, and forks. The newest are kept.
_POINTS_PER_KEY = 64
_ENDING_BYTES = 64


class Point(NamedTuple):
    """`members` stood before the growing list; `chain` and `splices` cover the body up to offset.

    Members are kept as places alone: tools are as large as a conversation, and the next body has
    them at the same place. `splices` are those of list elements only: the head's are found anew
    with the head. `ending` are the bytes right before the offset: comparing them first makes a
    wrong candidate cost next to nothing.
    """

    offset: int
    digest: bytes
    ending: bytes
    members: dict[str, tuple[int, int]]
    head_hash: int
    chain: Chain
    splices: list[Splice]


class ResumePoints:
    """At most `max_points`, least recently used first out."""

    def __init__(self, max_points: int) -> None:
        self._max_points = max_points
        self._filed: OrderedDict[tuple[str, int, int], list[Point]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, scope: str, body: bytes) -> Point | None:
        """The longest filed point that `body` begins with; `scope` keeps tenants apart."""
        for size_log2 in range(len(body).bit_length() - 1, _SMALLEST_LOG2 - 1, -1):
            key = _key(scope, body, size_log2)
            points = self._filed.get(key)
            if points is None:
                continue
            found = [point for point in points if _begins_with(body, point)]
            if found:
                self._filed.move_to_end(key)
                return max(found, key=lambda point: point.offset)
        return None

    def file(self, scope: str, body: bytes, point: Point, instead_of: Point) -> None:
        """Keep `point`, which was read from `body`, in place of the one it continued."""
        self._drop(scope, body, instead_of)
        if point.offset < 1 << _SMALLEST_LOG2:
            return
        key = _key(scope, body, point.offset.bit_length() - 1)
        points = self._filed.setdefault(key, [])
        self._filed.move_to_end(key)
        points.insert(0, point)
        self._count += 1
        self._count -= len(points[_POINTS_PER_KEY:])
        del points[_POINTS_PER_KEY:]
        while self._count > self._max_points:
            _, dropped = self._filed.popitem(last=False)
            self._count -= len(dropped)

    def _drop(self, scope: str, body: bytes, point: Point) -> None:
        if point.offset < 1 << _SMALLEST_LOG2:
            return
        key = _key(scope, body, point.offset.bit_length() - 1)
        points = self._filed.get(key, [])
        for index, filed in enumerate(points):
            if filed is point:
                del points[index]
                self._count -= 1
        if not points:
            self._filed.pop(key, None)


def digest(body: bytes, offset: int) -> bytes:
    return xxh3_128_digest(memoryview(body)[:offset])


def ending(body: bytes, offset: int) -> bytes:
    return body[max(0, offset - _ENDING_BYTES) : offset]


def _begins_with(body: bytes, point: Point) -> bool:
    offset = point.offset
    return point.ending == ending(body, offset) and point.digest == digest(body, offset)


def _key(scope: str, body: bytes, size_log2: int) -> tuple[str, int, int]:
    return (scope, size_log2, xxh3_64_intdigest(memoryview(body)[: 1 << size_log2]))
