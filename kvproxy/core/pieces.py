"""A request's body as it was received: in pieces, hashed while caches hold them, then read,
sent on and let go as they are.

Other bodies come while one waits for its turn, so each later look at all of it takes as long as
fetching it from memory, and a copy pushes everything else out of the caches. They are joined for
those alone who look at all of it.
"""

from collections.abc import Sequence
from operator import attrgetter

from xxhash import xxh3_128

from kvproxy.core.types import Splice

# Less is joined faster than it is looked for in pieces, and so are more of them.
BYTES_MIN, _PIECES_MAX = 64 * 2**10, 16
# How far it is from one known hash to the next; beyond so many, bodies are hashed once read.
_STEP_BYTES, _STATES_MAX = 128 * 2**10, 256
_START = attrgetter("start")


class Hashing:
    """What the beginnings of a body hash to, one every `step_bytes`, while it comes."""

    __slots__ = ("_hashed", "_left", "_states", "_step_bytes")

    def __init__(self, step_bytes: int = _STEP_BYTES) -> None:
        self._hashed = xxh3_128()
        self._step_bytes = self._left = step_bytes
        self._states: list[xxh3_128] = []

    def add(self, piece: bytes | memoryview) -> None:
        """What came next."""
        update, left, rest = self._hashed.update, self._left, len(piece)
        if len(self._states) >= _STATES_MAX:
            return
        view = memoryview(piece)
        while rest >= left and len(self._states) < _STATES_MAX:
            update(view[:left])
            self._states.append(self._hashed.copy())
            view, rest, left = view[left:], rest - left, self._step_bytes
        update(view)
        self._left = left - rest

    def until(self, end: int) -> tuple[int, xxh3_128]:
        """The last one known that is no longer than `end`: its length and hash state."""
        steps = min(end // self._step_bytes, len(self._states))
        return steps * self._step_bytes, self._states[steps - 1].copy() if steps else xxh3_128()


class Pieces:
    """As bytes for whoever takes slices of it, which are copies."""

    __slots__ = ("_hashing", "_size", "views")

    def __init__(
        self, pieces: Sequence[bytes | memoryview], hashing: Hashing | None = None
    ) -> None:
        self.views = [memoryview(piece) for piece in pieces]
        self._size = sum(map(len, pieces))
        self._hashing = hashing

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, end, step = part.indices(self._size)
        assert step == 1
        at = 0
        for view in self.views:
            before, at = at, at + len(view)
            if end <= at:
                # Nearly all lie in one.
                if start >= before:
                    return bytes(view[start - before : end - before])
                break
        return b"".join(self.between(start, end))

    def between(self, start: int, end: int) -> list[memoryview]:
        """Its bytes [start, end), not copied."""
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
        start, state = hashing.until(end) if hashing is not None else (0, xxh3_128())
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


def views(body: Body) -> Sequence[bytes | memoryview]:
    """All of it, as it can be written."""
    return (body,) if isinstance(body, bytes) else body.views
