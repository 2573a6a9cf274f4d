"""A connection to a replica: asked once at a time, its answer handed on as it arrives."""

import asyncio
import math
from collections.abc import Callable
from enum import Enum
from typing import cast

import httptools

from kvproxy.adapters.http1.deadlines import Deadlines
from kvproxy.adapters.http1.passage import Passage
from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.errors import ProxyError
from kvproxy.core.headers import LOWERED
from kvproxy.core.pieces import Body
from kvproxy.proxy import Exchange, Headers
from kvproxy.relaying import Feed

# How long a replica may take to read the end of a tunnel.
_FLUSH_S = 1.0


class Phase(Enum):
    IDLE = "idle"
    ASKED = "asked"  # no head of an answer yet
    ANSWER = "answer"  # inside its body
    DONE = "done"
    BROKEN = "broken"


# Their own names: an enumeration's attribute takes CPython 3.11 850 instructions.
_IDLE, _ASKED, _ANSWER, _DONE, _BROKEN = Phase


class _BehindError(Exception):
    """Stops llhttp."""


class Link(Passage):
    """`stale`: the replica closed it before it knew of the request, as far as can be told."""

    def __init__(
        self, replica: str, idle_timeout_s: float, deadlines: Deadlines, turns: Turns | None = None
    ) -> None:
        super().__init__(idle_timeout_s, turns or Turns())
        self.replica = replica
        self.phase = _IDLE
        self.idle_since = 0.0
        self.stale = False
        self.status = 0
        self.headers: Headers = ()
        self._deadlines = deadlines
        self._waiter: asyncio.Future[None] | None = None
        self._failure: ProxyError | None = None
        self._used = -1
        self._heard = False
        self._method = ""
        self._received: list[tuple[bytes, bytes]] = []
        self._keeps = False
        self._to_the_end = False
        self._tunnels = self.tunnelled = False
        self._hold_back: Callable[[bool], None] | None = None
        # llhttp adds to the parts without a call of ours.
        self.on_body = self._parts.append

    def ask(self, method: str, head: bytes, body: Body, *, tunnels: bool = False) -> None:
        """`tunnels`: it asks for a WebSocket, and an answer of 101 makes it one."""
        assert self.phase is _IDLE
        self.phase = _ASKED
        self._used += 1
        self._heard = self._over = self._between = False
        self.status = 0
        self._method = method
        self._tunnels = tunnels
        self._received = []
        parts = (body,) if isinstance(body, bytes) else body.views
        self._transport.writelines((head, *parts) if body else (head,))
        self.deadline = self._loop.time() + self._idle_timeout_s

    async def answered(self) -> None:
        """Returns when `status` and `headers` are there.

        Raises ProxyError upstream_lost, upstream_timeout, upstream_broke.
        """
        while self.phase is _ASKED:
            self._waiter = self._loop.create_future()
            await self._waiter
        if self._failure is not None and not self.status:
            raise self._failure.anew()

    async def relay(self, feed: Feed, exchange: Exchange) -> None:
        """Gives the body to `feed` as it arrives, no faster than the client takes it; from where
        that says so, it is a stream.

        Raises ProxyError upstream_broke, upstream_timeout.
        """
        self._feed = feed
        exchange.press = self._press
        try:
            if exchange.congested is not self._paused:
                self._press(exchange.congested)
            self._pass_on()
            if self.tunnelled:
                self._hold_back = exchange.hold_back
                exchange.tunnel(self._send_on)
            await self._until_over()
        finally:
            exchange.press = self._feed = self._hold_back = None
            if self._stream is not None:
                self._ebb(self._stream)
            if self._paused:
                self._press(False)
        if self._failure is not None:
            raise self._failure.anew()

    async def _until_over(self) -> None:
        """Once an answer was passed on to its end it is not cancelled any more: a client that goes
        at the last event, ahead of the turn that this takes, has all of it. Whoever would ask
        anew behind it asks still_wanted()."""
        try:
            while self.phase is _ANSWER:
                self._waiter = self._loop.create_future()
                await self._waiter
        except asyncio.CancelledError:
            if self.phase is not _DONE:
                raise

    def rest(self) -> bool:
        """Ready for the next request, if both messages are over and nobody wants to close."""
        unsent = self._transport.get_write_buffer_size()
        if self.phase is not _DONE or not self._keeps or unsent or self.closing or self._paused:
            return False
        self.phase = _IDLE
        self.deadline = math.inf
        self.idle_since = self._loop.time()
        # An answer that nobody wanted must not become part of the next.
        self._parts.clear()
        if self._method == "HEAD":
            # It waits for a body that does not come.
            self._read_anew()
        return True

    def give_up(self) -> None:
        """Nothing will come: whoever waits for a first byte fails at once."""
        if self.phase is _ASKED and not self._heard:
            self._fail("upstream_lost", "was given up before it answered")

    def cut(self) -> None:
        """Whoever waits for more of an answer is told that the replica was removed."""
        if self.phase is _ASKED or self.phase is _ANSWER:
            code = "upstream_broke" if self.phase is _ANSWER else "upstream_lost"
            self._fail(code, "was removed")

    def close(self) -> None:
        """At once: an engine that still works on an answer stops."""
        self.phase = _BROKEN
        self.deadline = math.inf
        if self.tunnelled:
            # What its client sent last still counts.
            self._transport.close()
            self._loop.call_later(_FLUSH_S, self._transport.abort)
        else:
            self._transport.abort()

    def _send_on(self, data: bytes) -> None:
        """From the client of a tunnel."""
        if not self.closing:
            self.deadline = self._loop.time() + self._idle_timeout_s
            self._transport.write(data)

    # What the transport calls.

    def pause_writing(self) -> None:
        if self._hold_back is not None:
            self._hold_back(True)

    def resume_writing(self) -> None:
        if self._hold_back is not None:
            self._hold_back(False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._read_anew()
        self._deadlines.members.add(self)

    def _hear(self, data: bytes) -> None:
        if self.phase is not _ASKED and self.phase is not _ANSWER:
            # Nobody asked for this.
            self.close()
            return
        self._heard = True
        self.deadline = self._loop.time() + self._idle_timeout_s
        # Its words alone: the error itself would refer to this call, and this call to it.
        fault: str | None = None
        try:
            self._read(data)
        except httptools.HttpParserUpgrade as switched:
            fault = None if self.tunnelled else str(switched)
            if self.tunnelled and len(data) > switched.args[0]:
                self._parts.append(data[switched.args[0] :])
        except httptools.HttpParserError as error:
            fault = str(error)
        if self._parts and self._method == "HEAD":
            # It has no body: whose is it?
            self._parts.clear()
            self._keeps = False
        self._pass_on()
        self._look_for_end(fault)

    def _look_for_end(self, fault: str | None) -> None:
        if self._over:
            self._keeps &= fault is None
            self._end(_DONE)
        elif fault is not None:
            self._fail("upstream_broke", f"sent what is not HTTP/1.1 ({fault})")

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.members.discard(self)
        if self.phase is _ANSWER and self._to_the_end and exc is None:
            self._end(_DONE)
        elif self.phase is _ANSWER:
            self._fail("upstream_broke", "broke off its answer")
        elif self.phase is _ASKED:
            self.stale = self._used > 0 and not self._heard
            self._fail("upstream_lost", "closed the connection without an answer")
        # It refers back to this object: only the collector would find both.
        del self._parser, self._take

    def expired(self) -> None:
        """Called when the deadline has passed."""
        if self._is_silent():
            self._fail("upstream_timeout", f"sent nothing for {self._idle_timeout_s:g} s")

    # What llhttp calls.

    def on_message_begin(self) -> None:
        # Something behind the answer: whose is it? Read, it would become part of the answer.
        if self._over:
            raise _BehindError("something came behind the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is _ASKED:
            self._received.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.phase is not _ASKED:
            return
        self.tunnelled = status == 101 and self._tunnels and self._parser.should_upgrade()
        if self.tunnelled:
            self._take = self._parts.append
        if status < 200 and not self.tunnelled:
            # Interim answers belong to this hop.
            self._received = []
            return
        self.status, self.headers = status, self._received
        names = [LOWERED[name] for name, _ in self._received]
        self._keeps = self._parser.should_keep_alive() and not self.tunnelled
        self._to_the_end = b"content-length" not in names and b"transfer-encoding" not in names
        self._over = self._method == "HEAD"
        self.phase = _ANSWER
        self._wake()

    def on_message_complete(self) -> None:
        self._over |= self.phase is _ANSWER and not self.tunnelled
        # What comes behind it is no part of a stream.
        self._write, self._between = None, False

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def _read_anew(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._take = self._parser.feed_data

    def _fail(self, code: str, what: str) -> None:
        self._failure = ProxyError(code, f"Replica {self.replica} {what}.", retry_after_s=1.0)
        self._end(_BROKEN)
        self._transport.abort()

    def _end(self, phase: Phase) -> None:
        self.phase = phase
        self.deadline = math.inf
        self._write = None
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            self._turns.wake(waiter, answer=True)
