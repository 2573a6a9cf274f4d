"""A request's head and a streamed chunk through the data plane, as multiples of llhttp alone."""

import asyncio
import timeit
from collections.abc import Callable

import httptools

from kvproxy.adapters.http1.connection import ClientConnection
from kvproxy.adapters.http1.deadlines import Deadlines
from kvproxy.adapters.http1.edge import NOBODY
from kvproxy.adapters.http1.exchange import ClientExchange
from kvproxy.adapters.http1.incoming import Incoming, Limits
from kvproxy.adapters.http1.known import KnownHeads
from kvproxy.adapters.http1.link import Link
from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.answer import AnswerWatch
from kvproxy.relaying import Stream
from tests.support.listeners import placement

LIMITS = Limits(2**20, 2**16, 60.0, 60.0, 100)
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Accept: */*\r\nUser-Agent: bench/1\r\nAuthorization: Bearer sk-1\r\nX-Session-ID: s-1\r\n"
    b"Content-Length: 900\r\n\r\n"
)
REQUEST = HEAD + b"x" * 900
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
# Budgets, in times of llhttp reading the same bytes for a protocol that only keeps them.
HEAD_TIMES, CHUNK_TIMES = 10.0, 7.0


class Nowhere(asyncio.Transport):
    def write(self, data: object) -> None:
        pass

    def writelines(self, list_of_data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        pass


class Keeps:
    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.on_body = self.parts.append

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


class Server:
    limits = LIMITS
    heads = KnownHeads()
    draining = False
    edge = NOBODY
    turns = Turns()
    exchange: ClientExchange

    def joined(self, connection: ClientConnection) -> None:
        pass

    left = joined

    def begin(self, exchange: ClientExchange, connection: ClientConnection) -> None:
        self.exchange = exchange

    def cancel(self, exchange: ClientExchange) -> None:
        pass


def least_s(call: Callable[[], object], number: int = 2000) -> float:
    return min(timeit.repeat(call, number=number, repeat=20)) / number


def test_a_request_is_read_within_budget() -> None:
    keeps = Keeps()
    parser = httptools.HttpRequestParser(keeps)

    def alone() -> None:
        keeps.headers.clear()
        keeps.parts.clear()
        parser.feed_data(REQUEST)

    times = least_s(lambda: Incoming(LIMITS, KnownHeads()).feed(REQUEST)) / least_s(alone)
    print(f"a request: {times:.1f} times llhttp")
    assert times <= HEAD_TIMES


async def test_a_chunk_is_relayed_within_budget() -> None:
    server = Server()
    connection = ClientConnection(server)
    connection.connection_made(Nowhere())
    connection.data_received(REQUEST)
    link = Link("r0", 600.0, Deadlines(1.0))
    link.connection_made(Nowhere())
    link.ask("POST", b"", b"")
    link.data_received(ANSWER)
    server.exchange.start(200, link.headers, placement())
    watch = AnswerWatch()

    def pass_on(chunk: bytes) -> Stream | None:
        watch.feed(chunk)
        server.exchange.send(chunk)
        return server.exchange.streaming(watch)

    relaying = asyncio.create_task(link.relay(pass_on, server.exchange))
    await asyncio.sleep(0)
    link.data_received(CHUNK)
    keeps = Keeps()
    parser = httptools.HttpResponseParser(keeps)
    parser.feed_data(ANSWER)

    def alone() -> None:
        keeps.parts.clear()
        parser.feed_data(CHUNK)

    times = least_s(lambda: link.data_received(CHUNK)) / least_s(alone)
    print(f"a chunk: {times:.1f} times llhttp")
    relaying.cancel()
    assert times <= CHUNK_TIMES
