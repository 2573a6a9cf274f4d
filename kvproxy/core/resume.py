"""Where reading may resume: a conversation's earlier turn found inside the new body, by content.

A point says: the first `offset` bytes of a body with this digest end right behind an element of its
growing list, and up to there the chain begins like this one. Hashing runs at memory speed, so one
digest over what is known replaces parsing it again. No body is kept. Points are found without any
session id: each is filed under a hash of the bytes that end at its largest power of two.
"""

from collections import OrderedDict
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct
from xxhash import xxh3_64_intdigest, xxh3_128

from kvproxy.core.before import Before
from kvproxy.core.heads import Fixed
from kvproxy.core.marks import NO_MARKS, Marks
from kvproxy.core.pieces import Body, between
from kvproxy.core.pieces import hashed as hash_until
from kvproxy.core.types import Chain, Splice

_SMALLEST_LOG2 = 9
_KEY_BYTES = 512
# Conversations that begin alike share a key until they pass the next power of two: those with the
# same tools and system text, and forks. The newest are kept.
_POINTS_PER_KEY = 64
_NEAR_BYTES = 8 * 2**10
# So many elements ahead, some are read again, to be known for good.
_AHEAD_MAX = 16
_Key = tuple[str, int, int]
_OFFSET = attrgetter("offset")


class Point(Struct, frozen=True):
    """`head` is the meaning of the head (core/heads). `members` stood before the growing list,
    whose first element is `lead` if that belongs to the head; the first `blocks` of `chain` and
    `splices` cover the body up to `offset`, which is `elements` elements in.

    `splices` and `marks` are those of list elements only: the head's are
    found anew with the head, or in `fixed`. What lies in `skip` may differ: text of the head that
    changes by itself, which is read anew with it. `near` is a digest of the bytes right before the
    offset: comparing it first makes a wrong candidate cost next to nothing. `key` tells the
    conversation apart where its model's name is split. `fixed` is the head itself, where all of it
    lies before the offset and nothing of it changes by itself. `ahead` is where all of the list had
    been read, for bodies that change nothing in the last elements.
    """

    offset: int
    elements: int
    digest: bytes
    skip: tuple[int, int]
    near: int
    members: Before
    lead: tuple[int, int] | None
    head: bytes
    chain: Chain
    blocks: int
    splices: Sequence[Splice]
    marks: Marks = NO_MARKS
    key: bytes = b""
    ahead: "Point | None" = None
    fixed: Fixed | None = None


class Begun(NamedTuple):
    """A point found in a body, and the hash state there, so that the next one hashes on. `filed` is
    the point itself or that which it is ahead of."""

    point: Point
    hashed: xxh3_128
    filed: Point


class ResumePoints:
    """At most `max_points`, least recently used first out. None below `worth_bytes`: so little is
    read as fast as it is looked up."""

    def __init__(self, max_points: int, worth_bytes: int = 0) -> None:
        self._smallest_log2 = max(_SMALLEST_LOG2, worth_bytes.bit_length() - 1)
        self.smallest = 1 << self._smallest_log2
        self._max_points = max_points
        self._filed: OrderedDict[_Key, list[Point]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, scope: str, body: Body) -> Begun | None:
        """The longest filed point that `body` begins with; `scope` keeps tenants apart."""
        if not self._filed:
            return None
        size = len(body)
        for size_log2 in range(size.bit_length() - 1, self._smallest_log2 - 1, -1):
            key = _key(scope, body, size_log2)
            points = self._filed.get(key)
            if points is None:
                continue
            begun = _begun(body, size, sorted(points, key=_OFFSET, reverse=True))
            if begun is not None:
                self._filed.move_to_end(key)
                return begun
        return None

    def file(self, scope: str, body: Body, point: Point, instead_of: Point | None) -> None:
        """Keep `point`, which was read from `body`, in place of the one it continued."""
        key = _key_of(scope, body, point) if point.offset >= self.smallest else None
        if instead_of is not None and instead_of.offset >= self.smallest:
            close = instead_of.offset.bit_length() == point.offset.bit_length()
            before = key if close else None
            self._drop(before or _key_of(scope, body, instead_of), instead_of)
        if key is None:
            return
        points = self._filed.get(key)
        if points is None:
            points = self._filed[key] = []
        else:
            self._filed.move_to_end(key)
        points.insert(0, point)
        self._count += 1
        if len(points) > _POINTS_PER_KEY:
            self._count -= 1
            del points[-1]
        while self._count > self._max_points:
            _, dropped = self._filed.popitem(last=False)
            self._count -= len(dropped)

    def _drop(self, key: _Key, point: Point) -> None:
        points = self._filed.get(key, [])
        for index, filed in enumerate(points):
            if filed is point:
                del points[index]
                self._count -= 1
                break
        if not points:
            self._filed.pop(key, None)


def hash_on(body: Body, offset: int, begun: Begun) -> xxh3_128:
    """The hash state of the first `offset` bytes, from where `begun` left off."""
    hashed, start = begun.hashed.copy(), begun.point.offset
    if isinstance(body, bytes):
        hashed.update(memoryview(body)[start:offset])
        return hashed
    for view in body.between(start, offset):
        hashed.update(view)
    return hashed


def hash_first(body: Body, offset: int, skip: tuple[int, int]) -> xxh3_128:
    """The hash state of the first `offset` bytes without those in `skip`."""
    if skip[0] >= min(skip[1], offset):
        return hash_until(body, offset)
    state = hash_until(body, skip[0])
    for view in between(body, skip[1], offset):
        state.update(view)
    return state


def near(body: Body, offset: int, skip: tuple[int, int]) -> int:
    """A digest of the last bytes before `offset`, none of them from before the end of `skip`."""
    return xxh3_64_intdigest(body[max(offset - _NEAR_BYTES, min(skip[1], offset), 0) : offset])


def _begun(body: Body, size: int, points: Sequence[Point]) -> Begun | None:
    """The first of `points` that it begins with. Those of conversations that differ early alone
    end at the same place and alike: it is looked at once for all of them."""
    last, end = None, 0
    state: xxh3_128 | None = None
    for point in points:
        if size < point.offset:
            continue
        at = (point.offset, point.skip)
        if at != last:
            last, end, state = at, near(body, *at), None
        if point.near != end:
            continue
        if state is None:
            state = hash_first(body, *at)
        if state.digest() == point.digest:
            return _ahead(body, size, Begun(point, state, point))
    return None


def _ahead(body: Body, size: int, begun: Begun) -> Begun:
    """Farther on, where all of the turn before is in the body."""
    point = begun.point
    ahead = point.ahead
    if ahead is None or size < ahead.offset or ahead.elements - point.elements > _AHEAD_MAX:
        return begun
    hashed = hash_on(body, ahead.offset, begun)
    return Begun(ahead, hashed, point) if hashed.digest() == ahead.digest else begun


def _key(scope: str, body: Body, size_log2: int) -> _Key:
    end = 1 << size_log2
    return (scope, size_log2, xxh3_64_intdigest(body[max(0, end - _KEY_BYTES) : end]))


def _key_of(scope: str, body: Body, point: Point) -> _Key:
    return _key(scope, body, point.offset.bit_length() - 1)
