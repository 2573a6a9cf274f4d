"""A request's body as it was received: in pieces, hashed while caches hold them, then read,
sent on and let go as they are.

Other bodies come while one waits for its turn, so each later look at all of it takes as long as
fetching it from memory, and a copy pushes everything else out of the caches. They are joined for
those alone who look at all of it.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter

from xxhash import xxh3_128

from kvproxy.core.types import Splice

# Less is joined faster than it is looked for in pieces, and so are more of them.
BYTES_MIN, _PIECES_MAX = 64 * 2**10, 16
# How far it is from one known hash to the next; beyond so many, bodies are hashed once read.
_STEP_BYTES, _STATES_MAX = 128 * 2**10, 256
_START = attrgetter("start")
_VIEW: Callable[[bytes | memoryview], memoryview] = memoryview


class Hashing:
    """`states` are what the beginnings of a body hash to, one every `step_bytes`, as it comes."""

    __slots__ = ("_hashed", "_left", "states", "step_bytes")

    def __init__(self, step_bytes: int = _STEP_BYTES) -> None:
        self._hashed = xxh3_128()
        self.step_bytes = self._left = step_bytes
        self.states: list[xxh3_128] = []

    def add(self, piece: bytes | memoryview) -> None:
        """What came next."""
        update, left, rest = self._hashed.update, self._left, len(piece)
        if len(self.states) >= _STATES_MAX:
            return
        view = memoryview(piece)
        while rest >= left and len(self.states) < _STATES_MAX:
            update(view[:left])
            self.states.append(self._hashed.copy())
            view, rest, left = view[left:], rest - left, self.step_bytes
        update(view)
        self._left = left - rest


class Pieces:
    """As bytes for whoever takes slices of it, which are copies."""

    __slots__ = ("_first_end", "_hashing", "_last_start", "_size", "views")

    def __init__(
        self, pieces: Sequence[bytes | memoryview], hashing: Hashing | None = None
    ) -> None:
        self.views: list[memoryview] = list(map(_VIEW, pieces))
        self._size = sum(map(len, pieces))
        self._first_end, self._last_start = len(pieces[0]), self._size - len(pieces[-1])
        self._hashing = hashing

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(self._size)
        # Nearly all that is asked for lies in the first or in the last.
        if end <= self._first_end:
            return bytes(self.views[0][start:end])
        if start >= self._last_start:
            before = self._last_start
            return bytes(self.views[-1][start - before : max(start, end) - before])
        return b"".join(self.between(start, end))

    def between(self, start: int, end: int) -> list[memoryview]:
        """Its bytes [start, end), not copied."""
        before = self._last_start
        if before <= start <= end:
            return [self.views[-1][start - before : end - before]]
        found = []
        for view in self.views:
            size = len(view)
            if start < size:
                found.append(view[start : max(start, end)])
                if end <= size:
                    break
            start, end = max(0, start - size), end - size
        return found

    def hashed(self, end: int) -> xxh3_128:
        """The hash state of its first `end` bytes."""
        hashing = self._hashing
        steps = min(end // hashing.step_bytes, len(hashing.states)) if hashing else 0
        if hashing and steps:
            start, state = steps * hashing.step_bytes, hashing.states[steps - 1].copy()
        else:
            start, state = 0, xxh3_128()
        for view in self.between(start, end):
            state.update(view)
        return state

    def whole(self) -> bytes:
        """All of it, joined once."""
        if len(self.views) == 1:
            only = self.views[0].obj
            if isinstance(only, bytes) and len(only) == self._size:
                return only
        joined = b"".join(self.views)
        self.views = [memoryview(joined)]
        self._first_end, self._last_start = self._size, 0
        return joined


Body = bytes | Pieces


def received(pieces: Sequence[bytes | memoryview], hashing: Hashing | None = None) -> Body:
    """As they came where that is worth it, or joined."""
    if len(pieces) <= _PIECES_MAX and sum(map(len, pieces)) >= BYTES_MIN:
        return Pieces(pieces, hashing)
    return b"".join(pieces)


def spliced(body: Body, splices: Sequence[Splice]) -> Body:
    """The bytes to forward: the client's own, each splice's range replaced."""
    if not splices:
        return body
    parts: list[bytes | memoryview] = []
    at, size = 0, len(body)
    for splice in sorted(splices, key=_START):
        assert at <= splice.start <= splice.end <= size, "splices overlap"
        parts += between(body, at, splice.start)
        parts.append(splice.new)
        at = splice.end
    parts += between(body, at, size)
    return received(parts)


def whole(body: Body) -> bytes:
    """Joined where it came in pieces: for whoever looks at all of it."""
    return body if isinstance(body, bytes) else body.whole()


def between(body: Body, start: int, end: int) -> Sequence[memoryview]:
    """Its bytes [start, end), not copied."""
    if isinstance(body, bytes):
        return (memoryview(body)[start:end],)
    return body.between(start, end)


def hashed(body: Body, end: int) -> xxh3_128:
    """The hash state of its first `end` bytes."""
    return xxh3_128(memoryview(body)[:end]) if isinstance(body, bytes) else body.hashed(end)
