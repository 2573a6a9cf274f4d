"""One request of a client and its answer: the proxy's Exchange, on a connection."""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from kvproxy.adapters.http1.edge import NOBODY, Edge, unclaimed
from kvproxy.adapters.http1.heads import Block, answer_head, block, sent_on
from kvproxy.adapters.http1.incoming import Incoming
from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.answer import AnswerWatch
from kvproxy.core.dialects import dialect_of, errors_of
from kvproxy.core.errors import ProxyError
from kvproxy.core.explain import describe
from kvproxy.core.headers import end_to_end
from kvproxy.core.pieces import Body
from kvproxy.core.router import Placement
from kvproxy.core.upgrade import WEBSOCKET
from kvproxy.proxy import Headers
from kvproxy.relaying import Stream

_JSON = (b"content-type", b"application/json")
_EVENTS = block([(b"content-type", b"text/event-stream; charset=utf-8")])
_WAITING = b": waiting\n\n"
# Beyond this a chunk and its framing are cheaper written as three than copied into one.
_COPY_MAX_BYTES = 16 * 2**10


class Wire(Protocol):
    """What an exchange needs of its connection."""

    congested: bool
    turns: Turns

    @property
    def closing(self) -> bool: ...

    def write(self, *data: bytes) -> None: ...

    def write_soon(self, data: bytes) -> None:
        """With what is written next, or else in the loop's next turn: each call is one of the
        system's, and an answer's head and its first bytes mostly are there together."""

    @property
    def writes(self) -> Callable[[bytes], object]:
        """What write() ends in: for as long as nobody was told that the client is gone."""

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        """What the client sends from now on, and what it has sent ahead, goes to `sink`."""

    def hold_back(self, full: bool) -> None:
        """Whether the client of a tunnel may send no more for now."""

    def close(self) -> None:
        """After what was written."""

    def reset(self) -> None:
        """At once, and so that the client cannot take it for the end of an answer."""


class ClientExchange:
    press: Callable[[bool], None] | None = None
    started = False
    held = False
    ended = False
    last = False
    _body: asyncio.Future[None] | None = None
    _chunked = False
    _unframed = False
    _events = False
    _sent_last = b""
    _watch: AnswerWatch | None = None

    def __init__(
        self, incoming: Incoming, wire: Wire, edge: Edge = NOBODY, *, trusted: bool = False
    ) -> None:
        self._incoming = incoming
        self._wire = wire
        self._edge = edge
        head = self._head = incoming.head or incoming.begun()
        self.method = head.method
        self.target = head.target
        self.path = head.path
        self.header = head.header
        self.raw_headers = unclaimed(head.headers) if head.claims and not trusted else head.headers
        self.request_id = head.request_id or os.urandom(16).hex()
        self.tunnels = head.tunnels

    @property
    def congested(self) -> bool:
        return self._wire.congested

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        self._wire.tunnel(sink)

    def hold_back(self, full: bool) -> None:
        self._wire.hold_back(full)

    async def accept(self) -> Body:
        incoming = self._incoming
        if not incoming.whole and incoming.refusal is None:
            expects = self.header.get("expect", "").lower() == "100-continue"
            if expects and not self._head.http10:
                self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._body = asyncio.get_running_loop().create_future()
            await self._body
        else:
            await self._wire.turns.turn()
        if incoming.refusal is not None:
            raise incoming.refusal.anew()
        return incoming.body()

    def body_settled(self) -> None:
        """The body is whole, or never will be."""
        if self._body is not None and not self._body.done():
            self._wire.turns.wake(self._body, answer=False)

    def hold(self) -> None:
        """The head of an event stream, once, and a comment.

        Nothing for clients of HTTP/1.0, who could not tell an error from an end, and for those who
        take nothing.
        """
        if self._head.http10 or self._wire.congested:
            return
        if not self.held:
            self.held = True
            self._start(200, _EVENTS, [(b"x-request-id", self.request_id.encode())])
        self.send(_WAITING)

    def start(self, status: int, headers: Headers, placement: Placement) -> None:
        if self.held:
            return
        own = [
            (b"x-request-id", self.request_id.encode()),
            (b"x-kvproxy-replica", placement.replica.id.encode()),
        ]
        if self.header.get("x-kvproxy-decision"):
            own.append((b"x-kvproxy-decision", describe(placement)))
        edge = self._edge
        if edge.unsaid:
            own = [pair for pair in own if pair[0] not in edge.unsaid]
        if edge.answers.sifts:
            headers = edge.answers.sifted(headers)
        if status == 101:
            self._switch([*end_to_end(headers, edge.answers.without), *own])
        else:
            self._start(status, sent_on(tuple(headers), edge.answers.without), own)

    def _start(self, status: int, theirs: Block, own: list[tuple[bytes, bytes]]) -> None:
        assert not self.started
        framed = theirs.sized or self.method == "HEAD" or status in (204, 304)
        http10 = self._head.http10
        if not framed:
            self._chunked, self._unframed = not http10, http10
            self._events = theirs.events and not http10
        self.last = self._unframed or self._wire.closing or not self._head.keep_alive
        self.last |= not self._incoming.whole or self._incoming.refusal is not None
        if "origin" in self.header:
            own += self._edge.allows(self.header)
        if self._chunked:
            own.append((b"transfer-encoding", b"chunked"))
        if self.last:
            own.append((b"connection", b"close"))
        elif http10:
            own.append((b"connection", b"keep-alive"))
        self.started = True
        self._wire.write_soon(answer_head(status, own, theirs.lines))

    def _switch(self, headers: list[tuple[bytes, bytes]]) -> None:
        """From here on there are no messages any more, only bytes."""
        assert self.tunnels and not self.started
        kept = [pair for pair in headers if pair[0].lower() != b"content-length"]
        self.started = self.last = True
        self._wire.write(answer_head(101, [*kept, *WEBSOCKET]))

    def send(self, chunk: bytes) -> None:
        if self._events:
            self._sent_last = chunk if len(chunk) > 3 else (self._sent_last + chunk)[-4:]
        if not self._chunked or not chunk:
            self._wire.write(chunk)
        elif len(chunk) <= _COPY_MAX_BYTES:
            self._wire.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        else:
            self._wire.write(b"%x\r\n" % len(chunk), chunk, b"\r\n")

    def streaming(self, watch: AnswerWatch) -> Stream | None:
        if not self._chunked:
            return None
        self._watch = watch
        return Stream(watch, self.send, self._wire.writes)

    def end(self) -> None:
        assert not self.ended
        self.ended = True
        if self._chunked:
            self._wire.write(b"0\r\n\r\n")

    def answer(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """A whole answer of our own."""
        # RFC 9110 §8.6: an answer that has no body by its status states no length.
        sized = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        self._start(status, block([*headers, *sized]), [])
        if self.method != "HEAD":
            self._wire.write(body)
        self.ended = True

    def refuse(self, error: ProxyError) -> None:
        """Answer with the error in the client's dialect, or cut a started answer short."""
        if not self.started:
            body = errors_of(self.path).error_body(error)
            self.answer(error.status, body, error_headers(error, self.request_id))
        elif not self.ended:
            dialect = dialect_of(self.method, self.path)
            if dialect is not None and self._events:
                # An event that was cut in two is ended first, or it would swallow this one.
                last = self._sent_last if self._watch is None else self._watch.end()
                whole = not last or last.endswith((b"\n\n", b"\r\n\r\n"))
                self.send((b"" if whole else b"\n\n") + dialect.stream_error(error))
                self.end()
            elif self._unframed:
                self.last = True
                self._wire.reset()
            else:
                self.last = True
                # Half an answer is never taken for a whole one: its framing stays unfulfilled.
                self._wire.close()


def error_headers(error: ProxyError, request_id: str) -> list[tuple[bytes, bytes]]:
    headers = [
        _JSON,
        (b"x-request-id", request_id.encode()),
        (b"x-kvproxy-error-code", error.code.encode()),
    ]
    if error.code == "unauthorized":
        headers.append((b"www-authenticate", b"Bearer"))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
    return headers
