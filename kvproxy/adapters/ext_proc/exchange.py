"""One request that Envoy carries: the proxy's Exchange, Upstream and Answer over one gRPC stream.

The proxy goes through the life of a request as ever; only that forwarding is telling Envoy where
to, and that the answer is heard, not relayed.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import Enum

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    HttpBody,
    ProcessingRequest,
    ProcessingResponse,
)

from kvproxy.adapters.ext_proc import messages
from kvproxy.adapters.ext_proc.addresses import Addresses
from kvproxy.core.access import path_of
from kvproxy.core.answer import AnswerWatch
from kvproxy.core.dialects import dialect_of, errors_of
from kvproxy.core.errors import ProxyError
from kvproxy.core.explain import describe
from kvproxy.core.headers import request_id_of, text
from kvproxy.core.pieces import Body, whole
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement
from kvproxy.proxy import Exchange, Headers
from kvproxy.relaying import Feed

# Envoy gives up on a processor that says nothing for 200 ms unless it is asked to wait.
_PATIENCE_AFTER_S = 0.05
_PATIENCE_S = 600.0


class Bodies(Enum):
    """How Envoy shows the bodies of requests."""

    NONE = ProcessingMode.NONE
    BUFFERED = ProcessingMode.BUFFERED
    STREAMED = ProcessingMode.FULL_DUPLEX_STREAMED


class EnvoyExchange:
    """Messages go out through `say`. `limit` is the largest body in bytes; `divides`: a fairness
    id makes a tenant of its own, which it cannot where API keys name the tenant."""

    def __init__(
        self,
        request: ProcessingRequest,
        say: Callable[[ProcessingResponse], None],
        addresses: Addresses,
        *,
        limit: int,
        objectives: Mapping[str, int],
        divides: bool,
    ) -> None:
        self._say = say
        self._addresses = addresses
        self._limit = limit
        pairs = messages.headers_of(request.request_headers.headers)
        header = {name: text(value) for name, value in pairs}
        self.method = header.get(":method", "")
        self.target = header.get(":path", "")
        self.path = path_of(self.target)
        self.raw_headers: Headers = ()
        self.header: Mapping[str, str] = _told(header, objectives, divides)
        self.barred = addresses.unfit(messages.subset_of(request))
        self.request_id = request_id_of(header.get("x-request-id", "")) or os.urandom(16).hex()
        self.press: Callable[[bool], None] | None = None
        self.congested = False
        # What the two sides speak is Envoy's affair.
        self.tunnels = False
        self.held = False
        config = request.protocol_config
        self._bodies = _bodies(request)
        ends = request.request_headers.end_of_stream
        if self._bodies is Bodies.NONE and not ends and dialect_of(self.method, self.path):
            raise _unfit("NONE")
        self._echo = config.response_body_mode == ProcessingMode.FULL_DUPLEX_STREAMED
        self._hears = config.response_body_mode != ProcessingMode.NONE or not config.ByteSize()
        self._parts: list[bytes] = []
        self._size = 0
        loop = asyncio.get_running_loop()
        self._body: asyncio.Future[bytes] = loop.create_future()
        self.head: asyncio.Future[EnvoyAnswer] = loop.create_future()
        self._answer: EnvoyAnswer | None = None
        self._timer: asyncio.TimerHandle | None = None
        if request.request_headers.end_of_stream:
            self._bodies = Bodies.NONE
        if self._bodies is Bodies.NONE:
            self._body.set_result(b"")
        elif self._bodies is Bodies.BUFFERED:
            say(messages.go_on_headers())

    # ----------------------------------------------------------------------- what Envoy says

    def hear(self, request: ProcessingRequest) -> None:
        kind = request.WhichOneof("request")
        if kind == "request_body":
            self._hear_body(request.request_body)
        elif kind == "request_trailers":
            self._body_is_whole()
        elif kind == "response_headers" and not self.head.done():
            pairs = messages.headers_of(request.response_headers.headers)
            whole = request.response_headers.end_of_stream or not self._hears
            self._answer = EnvoyAnswer(pairs, whole=whole)
            self.head.set_result(self._answer)
        elif kind == "response_body" and self._answer is not None:
            piece = request.response_body
            last = piece.end_of_stream
            self._say(messages.answer_piece(piece.body, last=last, echo=self._echo))
            self._answer.pieces.put_nowait(piece.body)
            if last:
                self._answer.pieces.put_nowait(None)

    def _hear_body(self, piece: HttpBody) -> None:
        self._size += len(piece.body)
        if self._size > self._limit and not self._body.done():
            self._parts.clear()
            limit = f"The body is larger than {self._limit} bytes (server.max_body_bytes)."
            self._body.set_exception(ProxyError("body_too_large", limit))
        elif not self._body.done():
            self._parts.append(piece.body)
            if piece.end_of_stream:
                self._body_is_whole()

    def _body_is_whole(self) -> None:
        if not self._body.done():
            self._body.set_result(b"".join(self._parts))
            self._parts.clear()
            if self._bodies is Bodies.BUFFERED:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(_PATIENCE_AFTER_S, self._ask_for_patience)

    def _ask_for_patience(self) -> None:
        self._timer = None
        self._say(messages.patience(_PATIENCE_S))

    # -------------------------------------------------------------------- what the proxy does

    async def accept(self) -> bytes:
        return await self._body

    def hold(self) -> None:
        """Only Envoy could tell the client anything."""

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        raise AssertionError("Envoy moves the bytes")

    def hold_back(self, full: bool) -> None:
        raise AssertionError("Envoy moves the bytes")

    def go(self, endpoints: list[str], headers: list[tuple[str, bytes]], body: bytes) -> None:
        """Envoy may send the request, with this body, to the first of `endpoints`."""
        self._stop_timer()
        came = self._body.result()
        if self._bodies is Bodies.NONE:
            self._say(messages.chosen_by_headers(endpoints, headers))
        elif self._bodies is Bodies.BUFFERED:
            new = None if body is came or body == came else body
            self._say(messages.chosen_by_body(endpoints, headers, new))
        else:
            if len(body) != len(came):
                headers = [*headers, ("content-length", b"%d" % len(body))]
            self._say(messages.chosen_by_headers(endpoints, headers))
            for piece in messages.streamed_body(body):
                self._say(piece)

    def start(self, status: int, headers: Headers, placement: Placement) -> None:
        own = [("x-kvproxy-replica", placement.replica.id.encode())]
        if self.header.get("x-kvproxy-decision"):
            own.append(("x-kvproxy-decision", describe(placement)))
        self._say(messages.answer_headers(own))

    def send(self, chunk: bytes) -> None:
        """Envoy has it already."""

    def streaming(self, watch: AnswerWatch) -> None:
        """Each piece is only heard."""

    def end(self) -> None:
        """Envoy knows."""

    def refuse(self, error: ProxyError) -> None:
        self._stop_timer()
        self._say(refusal(self.path, error, self.request_id))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Envoy says no more."""
        self._stop_timer()
        if self._answer is not None:
            self._answer.pieces.put_nowait(None)


class EnvoyAnswer:
    """What an engine answers, as Envoy shows it; the last of `pieces` is None."""

    def __init__(self, pairs: list[tuple[str, bytes]], *, whole: bool) -> None:
        named = dict(pairs)
        self.status = int(named.get(":status", b"0"))
        self.headers: Headers = [(name.encode(), value) for name, value in pairs]
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        if whole:
            self.pieces.put_nowait(None)

    async def relay(self, feed: Feed, exchange: Exchange) -> None:
        while (piece := await self.pieces.get()) is not None:
            feed(piece)


class EnvoyUpstream:
    """Envoy sends what is placed; `fallbacks` more endpoints are named for when the first fails."""

    def __init__(
        self,
        addresses: Addresses,
        others: Callable[[Placement, frozenset[str]], list[Replica]],
        api_keys: Mapping[str, str],
        fallbacks: int,
    ) -> None:
        self._addresses = addresses
        self._others = others
        self._api_keys = api_keys
        self._fallbacks = fallbacks

    @asynccontextmanager
    async def open(
        self, placement: Placement, exchange: Exchange, body: Body
    ) -> AsyncIterator[EnvoyAnswer]:
        assert isinstance(exchange, EnvoyExchange)
        replica, placing = placement.replica, placement.placing
        targets = [replica]
        if self._fallbacks:
            targets += self._others(placement, exchange.barred)[: self._fallbacks]
        endpoints = [found for each in targets if (found := self._addresses.of(each))]
        headers = []
        if replica.kv_events and placing.request_id:
            headers.append(("x-session-id", placing.request_id.encode()))
        if placing.match.rank is not None:
            headers.append(("x-data-parallel-rank", b"%d" % placing.match.rank))
        if exchange.header.get("x-request-id") != exchange.request_id:
            headers.append(("x-request-id", exchange.request_id.encode()))
        key = self._api_keys.get(replica.id)
        if key is not None:
            headers.append(("authorization", b"Bearer " + key.encode()))
        # None came as bytes: these were put there for the replica.
        headers += [(name.decode(), value) for name, value in exchange.raw_headers]
        exchange.go(endpoints, headers, whole(body))
        yield await exchange.head

    def abandon(self, replica: Replica) -> None:
        """Envoy has timeouts of its own."""


def refusal(path: str, error: ProxyError, request_id: str = "") -> ProcessingResponse:
    """What Envoy answers in the replica's place."""
    headers = [
        ("content-type", b"application/json"),
        ("x-kvproxy-error-code", error.code.encode()),
    ]
    if request_id:
        headers.append(("x-request-id", request_id.encode()))
    if error.code == "unauthorized":
        headers.append(("www-authenticate", b"Bearer"))
    if error.retry_after_s is not None:
        headers.append(("retry-after", b"%d" % max(1, round(error.retry_after_s))))
    return messages.refused(error.status, errors_of(path).error_body(error), headers)


def _bodies(request: ProcessingRequest) -> Bodies:
    """Where Envoy is too old to say, as the Gateway API wants it."""
    if not request.HasField("protocol_config"):
        return Bodies.STREAMED
    mode = request.protocol_config.request_body_mode
    try:
        return Bodies(mode)
    except ValueError:
        raise _unfit(ProcessingMode.BodySendMode.Name(mode)) from None


def _unfit(mode: str) -> ProxyError:
    return ProxyError(
        "bad_request",
        f"Envoy's ext_proc filter has request_body_mode {mode}: set FULL_DUPLEX_STREAMED or "
        "BUFFERED.",
    )


def _told(header: dict[str, str], objectives: Mapping[str, int], divides: bool) -> dict[str, str]:
    """What the gateway says, where the proxy looks for it. An objective that is known decides the
    priority, whatever the client asked for; a fairness id divides those who share a credential."""
    named = next((header[name] for name in messages.OBJECTIVE if name in header), "")
    if named in objectives:
        header = header | {"x-vllm-priority": str(objectives[named])}
    fairness = next((header[name] for name in messages.FAIRNESS if name in header), None)
    if fairness is not None and divides:
        whose = header.get("authorization", "") or header.get("x-api-key", "")
        header = header | {"authorization": f"{whose}\0{fairness}"}
    return header
