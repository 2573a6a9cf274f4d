"""How the body of an answer gets from a replica's connection to the client: as it comes, and no
faster than the client takes it.

Streams come a chunk at a time and each finds cold caches, so what it touches on its way is what it
costs: once nobody looks into them any more, chunks go through a few lines of one function.
"""

import asyncio
import math
from collections.abc import Callable

import httptools

from kvproxy.core.answer import PILED_BYTES, PILED_MAX
from kvproxy.relaying import Feed, Stream


class Passage(asyncio.Protocol):
    """`_take` reads what comes: llhttp puts the body's `_parts` where a stream's are watched,
    without a call of ours. `_hear` is given all that is no stream, `_look_for_end` is asked
    wherever something may be over."""

    # Together in memory, unlike what an instance's dictionary holds.
    __slots__ = (
        *("_feed", "_heard_at", "_idle_timeout_s", "_loop", "_parts", "_paused", "_stirred"),
        *("_stream", "_take", "_transport", "_write", "deadline"),
    )

    def __init__(self, idle_timeout_s: float) -> None:
        self.deadline = math.inf
        self._idle_timeout_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parts: list[bytes] = []
        self._take: Callable[[bytes], object]
        self._feed: Feed | None = None
        self._stream: Stream | None = None
        self._write: Callable[[bytes], object] | None = None
        self._paused = self._stirred = False
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
        try:
            self._take(data)
        except httptools.HttpParserError as error:
            self._streamed(before, str(error))
            return
        if self._write is not write or len(parts) != before + 1:
            self._streamed(before)
            return
        part = parts[before]
        size = len(part)
        if size > PILED_BYTES or before >= PILED_MAX:
            self._streamed(before)
            return
        write(b"%x\r\n%b\r\n" % (size, part))
        self._stirred = True

    def _streamed(self, before: int, fault: str | None = None) -> None:
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
        if parts and feed is not None:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            stream = feed(data)
            if stream is not None:
                self._flow(stream)

    def _flow(self, stream: Stream) -> None:
        """From here on it is a stream, and its parts pile up where they are."""
        stream.watch.settle()
        stream.watch.pile = self._parts
        self._stream, self._write = stream, stream.write
        if not self._paused:
            self._await_more()

    def _ebb(self, stream: Stream) -> None:
        """It is none any more."""
        stream.watch.settle()
        stream.watch.pile = []
        self._stream = self._write = None

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
