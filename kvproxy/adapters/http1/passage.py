"""How the body of an answer gets from a replica's connection to the client: as it comes, and no
faster than the client takes it.

Streams come a chunk at a time and each finds cold caches, so what it touches on its way is what it
costs: once nobody looks into them any more, chunks go through a few lines of one function.
"""

import asyncio
import math
from collections.abc import Callable

import httptools

from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.answer import PILED_BYTES, PILED_MAX
from kvproxy.relaying import Feed, Stream

# So many parts of an answer may come before somebody takes them.
_AHEAD_MAX = 16
# Larger chunks are not worth a table.
_ALONE_MAX = 1024


def _openings() -> dict[int, bytes]:
    """How a chunk begins, as engines write it, by how many bytes it has with its framing."""
    written = {size: b"%x\r\n" % size for size in range(1, _ALONE_MAX + 1)}
    return {len(opening) + size + 2: opening for size, opening in written.items()}


# A chunk that came alone is known by its length: no byte of its framing is open, so llhttp would
# find the same.
_opening_of = _openings().get


class Passage(asyncio.Protocol):
    """`_take` reads what comes: llhttp puts the body's `_parts` where a stream's are watched,
    without a call of ours, and it is `_between` two chunks or not. `_hear` is given all that is no
    stream, `_look_for_end` is asked wherever something may be over."""

    # Together in memory, unlike what an instance's dictionary holds.
    __slots__ = (
        *("_between", "_feed", "_heard_at", "_idle_timeout_s", "_loop", "_over", "_parts"),
        *("_paused", "_stirred", "_stream", "_take", "_transport", "_turns", "_write", "deadline"),
    )

    def __init__(self, idle_timeout_s: float, turns: Turns) -> None:
        self.deadline = math.inf
        self._idle_timeout_s = idle_timeout_s
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parts: list[bytes] = []
        self._take: Callable[[bytes], object]
        self._feed: Feed | None = None
        self._stream: Stream | None = None
        self._write: Callable[[bytes], object] | None = None
        self._between = self._over = self._paused = self._stirred = False
        self._heard_at = 0.0

    def _hear(self, data: bytes) -> None:
        raise NotImplementedError

    def _look_for_end(self, fault: str | None) -> None:
        """`fault`: why what came cannot be read."""
        raise NotImplementedError

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    def data_received(self, data: bytes) -> None:
        write = self._write
        if write is None:
            self._hear(data)
            return
        parts = self._parts
        before = len(parts)
        if self._between and before < PILED_MAX:
            size = len(data)
            opening = _opening_of(size)
            if opening is not None:
                part = data.removeprefix(opening).removesuffix(b"\r\n")
                if len(opening) + len(part) + 2 == size:
                    parts.append(part)
                    write(data)
                    self._stirred = True
                    return
        fault: str | None = None
        try:
            self._read(data)
        except httptools.HttpParserError as error:
            fault = str(error)
        self._streamed(before, fault)

    def _read(self, data: bytes) -> None:
        self._between = False
        self._take(data)
        # A size line that has begun is told of at its end.
        self._between &= data.endswith(b"\r\n")

    def _streamed(self, before: int, fault: str | None) -> None:
        """All that comes of a stream now and then: any number of parts behind those `before`."""
        assert self._stream is not None
        data = b"".join(self._parts[before:])
        self._stirred = True
        if len(self._parts) >= PILED_MAX or len(data) > PILED_BYTES:
            self._stream.watch.settle()
        if data:
            self._stream.send(data)
        self._look_for_end(fault)

    def _pass_on(self) -> None:
        parts, feed = self._parts, self._feed
        if feed is None:
            if len(parts) > _AHEAD_MAX:
                self._press(True)
        elif parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            stream = feed(data)
            if stream is not None and not self._over:
                self._flow(stream)

    def _flow(self, stream: Stream) -> None:
        """From here on it is a stream, and its parts pile up where they are."""
        stream.watch.settle()
        stream.watch.pile = self._parts
        # Streams that began together would all look through their piles at the same chunk.
        self._parts += [b""] * (self._turns.streams % PILED_MAX)
        self._turns.streams += self._stream is None
        self._stream, self._write = stream, stream.write
        if not self._paused:
            self._await_more()

    def _ebb(self, stream: Stream) -> None:
        """It is none any more."""
        stream.watch.settle()
        stream.watch.pile = []
        self._stream = self._write = None
        self._turns.streams -= 1

    def _press(self, full: bool) -> None:
        """Read on or not, as the client takes what comes."""
        if full == self._paused or self.closing:
            return
        self._paused = full
        if full:
            self._transport.pause_reading()
            self.deadline = math.inf
        else:
            self._transport.resume_reading()
            self._await_more()

    def _await_more(self) -> None:
        self._heard_at = self._loop.time()
        # The chunks of a stream only leave word that they came, so it is looked at all the time.
        patience_s = self._idle_timeout_s if self._write is None else 0.0
        self.deadline = self._heard_at + patience_s

    def _is_silent(self) -> bool:
        """Whether the deadline means what it says."""
        if self._write is None:
            return True
        now = self._loop.time()
        if self._stirred:
            self._stirred, self._heard_at = False, now
        return now >= self._heard_at + self._idle_timeout_s
