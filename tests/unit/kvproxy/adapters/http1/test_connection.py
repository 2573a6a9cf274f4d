"""Client connections on real sockets: one request after another, patience, the end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from kvproxy.adapters.http1.connection import ClientConnection
from kvproxy.adapters.http1.incoming import Limits
from kvproxy.adapters.http1.listener import HttpServer, Page
from kvproxy.adapters.http1.states import State
from kvproxy.core.errors import ProxyError
from kvproxy.proxy import Exchange
from tests.support.listeners import JSON, echo, guard, listening, placement
from tests.support.pipe import Pipe
from tests.support.proxies import eventually
from tests.support.unplugged import Wire
from tests.support.wire import connected, post, read_answer, request

CHUNKS = request("POST", "/", [("transfer-encoding", "chunked")]) + b"3\r\none\r\n0\r\n\r\n"
SSE = ((b"content-type", b"text/event-stream"),)


async def test_requests_in_one_packet_are_answered_in_order() -> None:
    bodies = [b"a", b"b" * 500, b"one", b"", b"c"]
    raws = [post(bodies[0]), post(bodies[1]), CHUNKS, request("GET", "/x"), post(bodies[4])]
    async with listening(echo) as (_, url), connected(url) as (reader, writer):
        writer.write(b"".join(raws))
        assert [(await read_answer(reader)).body for _ in raws] == bodies


async def test_the_next_request_waits_for_the_answer() -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    begun: list[str] = []

    async def gated(exchange: Exchange) -> None:
        begun.append(exchange.path)
        await gates[len(begun) - 1].wait()
        await echo(exchange)

    async with listening(gated) as (server, url), connected(url) as (reader, writer):
        writer.write(post(b"1", "/first") + post(b"2", "/second")[:40])
        await eventually(lambda: begun == ["/first"])
        writer.write(post(b"2", "/second")[40:])
        [connection] = server.connections
        await eventually(lambda: not connection._transport.is_reading())
        assert (begun, connection.state) == (["/first"], State.ANSWER)
        gates[0].set()
        assert (await read_answer(reader)).body == b"1"
        gates[1].set()
        assert (await read_answer(reader)).body == b"2"


async def test_nothing_is_answered_behind_connection_close() -> None:
    async with listening(echo) as (_, url), connected(url) as (reader, writer):
        writer.write(post(b"last", connection="close") + post(b"more"))
        answer = await read_answer(reader)
        assert (answer.body, answer.header(b"connection")) == (b"last", b"close")
        assert await reader.read() == b""


async def test_http_1_0() -> None:
    async def unframed(exchange: Exchange) -> None:
        await exchange.accept()
        exchange.start(200, JSON, placement())
        if exchange.method != "HEAD":
            exchange.send(b"all there is")
        exchange.end()

    framed = b"HEAD / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"
    async with listening(unframed) as (_, url), connected(url) as (reader, writer):
        writer.write(framed)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"connection: keep-alive" in head
        writer.write(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        answer = await read_answer(reader)
        assert (answer.body, answer.header(b"connection")) == (b"all there is", b"close")


async def test_a_refused_upload_gets_its_answer_although_it_goes_on() -> None:
    """Closing at once would reset the connection and with it the answer under way."""
    async with listening(echo, max_body=1000) as (server, url), connected(url) as (reader, writer):
        writer.write(post(b"x" * 300_000))
        answer = await read_answer(reader)
        assert (answer.status, answer.complete) == (413, True)
        assert await reader.read() == b""
        writer.close()
        await eventually(lambda: not server.connections)


async def test_a_client_that_never_closes_is_not_waited_for() -> None:
    async with listening(echo, max_body=10) as (server, url), connected(url) as (reader, writer):
        writer.write(post(b"", content_length="11"))
        assert (await read_answer(reader)).status == 413
        [connection] = server.connections
        assert connection.state is State.LINGER
        connection.expired()
        await eventually(lambda: not server.connections)


@pytest.mark.parametrize("part", [post(b"")[:20], post(b"half", content_length="8")])
async def test_a_request_that_trickles_in_is_given_up(part: bytes) -> None:
    async with (
        listening(echo, body_timeout_s=0.1) as (server, url),
        connected(url) as (reader, writer),
    ):
        trickle = asyncio.create_task(_trickle(writer, part))
        answer = await read_answer(reader)
        trickle.cancel()
        assert (answer.status, answer.header(b"connection")) == (408, b"close")
        writer.close()
        await eventually(lambda: not server.connections)


async def _trickle(writer: asyncio.StreamWriter, part: bytes) -> None:
    for byte in part:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def test_an_idle_connection_is_closed() -> None:
    async with (
        listening(echo, keepalive_timeout_s=0.05) as (_, url),
        connected(url) as (reader, writer),
    ):
        writer.write(post(b"x"))
        assert (await read_answer(reader)).status == 200
        assert await reader.read() == b""


async def test_pressure_is_told_while_the_client_does_not_read() -> None:
    told: list[bool] = []

    async def flood(exchange: Exchange) -> None:
        await exchange.accept()
        exchange.press = told.append
        exchange.start(200, SSE, placement())
        while not exchange.congested:
            exchange.send(b"x" * 2**16)
            await asyncio.sleep(0)
        exchange.end()

    async with listening(flood) as (server, url), connected(url) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(post(b""))
        await eventually(lambda: told == [True])
        [connection] = server.connections
        assert connection._loop.time() < connection.deadline < connection._loop.time() + 31
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await read_answer(reader)).complete
        await eventually(lambda: not connection.congested)


async def test_small_packets_are_sent_at_once() -> None:
    async with listening(echo) as (server, url), connected(url) as (reader, writer):
        writer.write(post(b""))
        await read_answer(reader)
        [connection] = server.connections
        connected_socket = connection._transport.get_extra_info("socket")
        assert connected_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_what_is_no_request_is_refused_in_words() -> None:
    async with listening(echo) as (server, url), connected(url) as (reader, writer):
        writer.write(b"secret\r\n\r\n")
        answer = await read_answer(reader)
        assert (answer.status, answer.header(b"x-kvproxy-error-code")) == (400, b"bad_request")
        assert b"secret" not in answer.body
        assert server.in_flight == 0


async def test_who_takes_no_answers_is_given_no_more_of_them() -> None:
    async def large(_query: str) -> Page:
        return Page(b"x" * 2**16)

    server = HttpServer(echo, {"/own": large}, Limits(10, 1000, 30.0, 60.0, 10), guard)
    pipe = Pipe(ClientConnection(server))
    [connection] = server.connections
    pipe.client_sends(request("GET", "/own") * 50)
    for _ in range(200):
        await asyncio.sleep(0)
    assert (connection.state, connection.congested) == (State.IDLE, True)
    assert pipe.unsent_max < 2 * 2**16
    assert connection.deadline < connection._loop.time() + 31
    # Once they are taken it goes on, up to the last.
    while pipe.get_write_buffer_size():
        pipe.client_takes(2**20)
        for _ in range(10):
            await asyncio.sleep(0)
    assert pipe.written.count(b"HTTP/1.1 200") == 50
    pipe.client_closes()
    await eventually(lambda: not server.connections)


async def test_half_an_answer_is_not_kept_for_a_client_that_does_not_take_it() -> None:
    async def broken(exchange: Exchange) -> None:
        await exchange.accept()
        exchange.start(200, JSON, placement())
        exchange.send(b"half")
        raise ProxyError("upstream_broke", "gone")

    server = HttpServer(broken, {}, Limits(10, 1000, 30.0, 60.0, 10), guard)
    pipe = Pipe(ClientConnection(server))
    [connection] = server.connections
    pipe.client_sends(post(b""))
    await eventually(pipe.is_closing)
    assert connection.state is State.LINGER
    assert connection.deadline < connection._loop.time() + 31
    connection.expired()
    await eventually(lambda: not server.connections)


async def test_the_last_answer_is_waited_for_as_long_as_a_body() -> None:
    """A slow client has more than the second in which it is listened to afterwards."""
    server = HttpServer(echo, {}, Limits(10, 1000, 30.0, 60.0, 10), guard)
    pipe = Pipe(ClientConnection(server))
    [connection] = server.connections
    pipe.client_sends(post(b"x", connection="close"))
    await eventually(lambda: connection.state is State.LINGER)
    assert 25 < connection.deadline - connection._loop.time() < 31
    pipe.client_resets()
    await eventually(lambda: not server.connections)


class Calls(Wire):
    """What each call writes."""

    def write(self, data: object) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[object]) -> None:
        super().writelines([b"|", *list_of_data])

    def close(self) -> None:
        self.writelines([b"closed"])


@asynccontextmanager
async def writing() -> AsyncIterator[tuple[ClientConnection, Calls]]:
    async with listening(echo) as (server, _):
        connection, wire = ClientConnection(server), Calls()
        connection.connection_made(wire)
        yield connection, wire
        connection.connection_lost(None)


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_head_goes_out_with_what_is_there_of_its_body_and_waits_for_nothing(
    turns: int,
) -> None:
    async with writing() as (connection, wire):
        connection.write_soon(b"head")
        assert wire.written == []
        for _ in range(turns):
            await asyncio.sleep(0)
        connection.write(b"one")
        connection.write(b"two", b"three")
        await asyncio.sleep(0)
        said = b"".join(wire.written)
        assert said == (b"|head|one|twothree" if turns else b"|headone|twothree")


async def test_what_is_held_is_sent_before_the_end_and_never_behind_it() -> None:
    async with writing() as (connection, wire):
        connection.write_soon(b"head")
        connection.close()
        assert b"".join(wire.written) == b"|head|closed"
        connection.write_soon(b"late")
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert b"".join(wire.written) == b"|head|closed"
