"""A client's connection: bytes in, one exchange at a time, its answer out.

What a client sends while it is being answered waits unread. A client that goes away cancels its
request at once, also while that waits for a first token.
"""

import asyncio
import math
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from kvproxy.adapters.http1 import states
from kvproxy.adapters.http1.edge import Edge
from kvproxy.adapters.http1.exchange import ClientExchange
from kvproxy.adapters.http1.incoming import Incoming, Limits
from kvproxy.adapters.http1.known import KnownHeads
from kvproxy.adapters.http1.states import after
from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.errors import ProxyError

# A client that was refused while it sent is listened to this long, or it would miss the answer.
_LINGER_S = 1.0
# With this an end of the connection is a reset, which no client takes for the end of an answer.
_RESET = struct.pack("ii", 1, 0)


class Serving(Protocol):
    """What a connection needs of the server."""

    limits: Limits
    heads: KnownHeads
    draining: bool
    edge: Edge
    turns: Turns
    turned_away: Callable[[str], None]

    def joined(self, connection: "ClientConnection") -> None: ...

    def left(self, connection: "ClientConnection") -> None: ...

    def begin(self, exchange: ClientExchange, connection: "ClientConnection") -> None:
        """Starts to answer; ends with connection.answered()."""

    def cancel(self, exchange: ClientExchange) -> None: ...


class ClientConnection(asyncio.Protocol):
    def __init__(self, server: Serving) -> None:
        self._server = server
        self._limits = server.limits
        self.turns = server.turns
        self._loop = asyncio.get_running_loop()
        self.state = states.IDLE
        self.deadline = math.inf
        self._exchange: ClientExchange | None = None
        self._incoming = Incoming(server.limits, server.heads)
        self._ahead = b""
        self._held = b""
        self._trusted = False
        self._sink: Callable[[bytes], None] | None = None
        self.congested = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        edge = self._server.edge
        if edge.trusted:
            self._trusted = edge.trusts(_address(transport))
        self._server.joined(self)
        self._allow(self._limits.keepalive_timeout_s)

    def data_received(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)
        elif self.state is states.ANSWER:
            self._ahead += data
            self._transport.pause_reading()
        elif self.state is not states.LINGER and self._incoming.refusal is None:
            self._read(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = after(self.state, states.LOST)
        self._incoming.abandon()
        self.deadline = math.inf
        self._server.left(self)
        if self._exchange is not None:
            # Who is gone takes nothing: no chunk may come before the end is noticed.
            self.congested = True
            self._press()
            self._server.cancel(self._exchange)

    def pause_writing(self) -> None:
        # As long as a client may take to send, it may also take nothing.
        self._allow(self._limits.body_timeout_s)
        self.congested = True
        self._press()

    def resume_writing(self) -> None:
        self.congested = False
        if self.state is states.ANSWER:
            self.deadline = math.inf
            self._press()
        elif self.state is states.IDLE and not self._transport.is_closing():
            self._transport.resume_reading()
            self._go_on()

    # What the server and the exchange call.

    @property
    def closing(self) -> bool:
        return self._server.draining

    def write(self, *data: bytes) -> None:
        if self.state is states.CLOSED or self._transport.is_closing():
            return
        if self._held:
            data, self._held = (self._held, *data), b""
        if len(data) == 1:
            self._transport.write(data[0])
        else:
            self._transport.writelines(data)

    def write_soon(self, data: bytes) -> None:
        self._held += data
        self._loop.call_soon(self._flush)

    @property
    def writes(self) -> Callable[[bytes], object]:
        return self._transport.write

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        if self.state is not states.ANSWER or self._transport.is_closing():
            return
        ahead, self._ahead, self._sink = self._ahead, b"", sink
        if ahead:
            sink(ahead)
        self._transport.resume_reading()

    def hold_back(self, full: bool) -> None:
        if self._sink is None or self._transport.is_closing():
            return
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def reset(self) -> None:
        if self.state is states.CLOSED:
            return
        connected = self._transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def answered(self, exchange: ClientExchange) -> None:
        """Nothing more comes from this exchange."""
        self._exchange = self._sink = None
        if self.state is states.CLOSED:
            return
        if not exchange.ended or self._transport.is_closing():
            self._cut()
        elif exchange.last or self._server.draining:
            self._end()
        else:
            self.state = after(self.state, states.ANSWERED)
            self._next()

    @property
    def gives_way(self) -> bool:
        """Whether another connection is worth more: no request is under way here."""
        # One whose client still takes the last answer is not idle.
        idle = self.state is states.IDLE and not self._transport.get_write_buffer_size()
        return idle or self.state is states.HEAD

    def give_way(self) -> None:
        self._transport.abort()

    def hurry(self) -> None:
        """No further request is wanted."""
        if self.state is states.IDLE:
            self.close()

    def expired(self) -> None:
        """Called when the deadline has passed."""
        self.deadline = math.inf
        waited = f"{self._limits.body_timeout_s:g} s (server.body_timeout_s)"
        late = ProxyError("request_timeout", f"The request did not arrive in {waited}.")
        if self.state is states.HEAD:
            self._refuse_head(late)
        elif self.state is states.BODY:
            self._refuse_body(late)
        else:
            self._transport.abort()

    # How a request is read.

    def _read(self, data: bytes) -> None:
        if self.state is states.IDLE:
            self.state = after(self.state, states.BYTES)
            self._allow(self._limits.body_timeout_s)
        incoming = self._incoming
        try:
            self._ahead = incoming.feed(data)
        except ProxyError as error:
            incoming.refusal = error.anew()
        if self.state is states.HEAD:
            if incoming.head is None:
                if incoming.refusal is not None:
                    self._refuse_head(incoming.refusal)
                return
            self.state = after(self.state, states.HEAD_READ)
            edge, trusted = self._server.edge, self._trusted
            self._exchange = ClientExchange(incoming, self, edge, trusted=trusted)
            self._server.begin(self._exchange, self)
        if incoming.refusal is not None:
            self._refuse_body(incoming.refusal)
        elif incoming.whole:
            self.state = after(self.state, states.BODY_READ)
            if not self.congested:
                self.deadline = math.inf
            assert self._exchange is not None
            self._exchange.body_settled()
            if self._ahead:
                self._transport.pause_reading()

    def _refuse_head(self, error: ProxyError) -> None:
        """There is no request to speak of yet."""
        self._server.turned_away(error.code)
        ClientExchange(self._incoming, self).refuse(error)
        self._end()

    def _refuse_body(self, error: ProxyError) -> None:
        """Whoever waits for the body is told; what is left of it is not worth reading."""
        assert self._exchange is not None
        self._incoming.refusal = error
        self.deadline = math.inf
        self._exchange.body_settled()

    def _next(self) -> None:
        self._incoming = Incoming(self._limits, self._server.heads)
        if self.congested:
            # Who asks and does not take what is answered would fill our memory.
            self._transport.pause_reading()
            self._allow(self._limits.body_timeout_s)
        else:
            self._go_on()

    def _go_on(self) -> None:
        self._allow(self._limits.keepalive_timeout_s)
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            self._transport.resume_reading()
            self._read(ahead)

    def _cut(self) -> None:
        """What was sent of an answer still goes out, but is not waited for without end."""
        self.state = after(self.state, states.ANSWERED_LAST)
        self.close()
        self._allow(self._limits.body_timeout_s)

    def _end(self) -> None:
        """The client sees the end of our side, and is heard a little longer: closing while its
        bytes arrive would reset the connection under the answer."""
        self.state = after(self.state, states.ANSWERED_LAST)
        self._flush()
        unsent = self._transport.get_write_buffer_size()
        self._allow(self._limits.body_timeout_s if unsent else _LINGER_S)
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()

    def _flush(self) -> None:
        if self._held:
            self.write()

    def _press(self) -> None:
        if self._exchange is not None and self._exchange.press is not None:
            self._exchange.press(self.congested)

    def _allow(self, patience_s: float) -> None:
        self.deadline = self._loop.time() + patience_s


def _address(transport: asyncio.BaseTransport) -> str:
    """Whom a connection comes from; empty for what has no address."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""
