"""The listener on real sockets, with a handler that the test writes."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from kvproxy.adapters.http1.connection import ClientConnection
from kvproxy.adapters.http1.listener import Handler
from kvproxy.adapters.http1.states import State
from kvproxy.core.errors import ProxyError
from kvproxy.proxy import Exchange
from tests.support.listeners import JSON, echo, listening, placement
from tests.support.pipe import Pipe
from tests.support.proxies import eventually
from tests.support.wire import ask, connected, post, read_answer, request

SSE = ((b"Content-Type", b"text/event-stream"),)


def error_of(body: bytes) -> dict[str, object]:
    found = json.loads(body)["error"]
    assert isinstance(found, dict)
    return found


async def test_requests_go_to_the_handler_and_own_pages_do_not() -> None:
    async with listening(echo) as (server, url):
        answer = await ask(url, post(b"hello", x_request_id="my-id"))
        assert (answer.status, answer.body, answer.complete) == (200, b"hello", True)
        assert answer.header(b"x-request-id") == b"my-id"
        assert answer.header(b"x-kvproxy-replica") == b"r0"
        assert (await ask(url, request("GET", "/own"))).body == b"own page\n"
        assert (await ask(url, request("HEAD", "/own"))).body == b""
        assert (await ask(url, post(b"x", "/own"))).body == b"x"
        assert server.in_flight == 0


async def test_own_pages_are_guarded() -> None:
    async with listening(echo) as (_, url):
        got = await ask(url, request("GET", "/own", [("X-Banned", "1")]))
    assert (got.status, got.header(b"www-authenticate")) == (401, b"Bearer")


async def test_a_request_without_an_id_gets_one() -> None:
    async with listening(echo) as (_, url):
        ids = {(await ask(url, post(b""))).header(b"x-request-id") for _ in range(3)}
        assert len(ids) == 3
        assert None not in ids


async def test_ids_that_could_do_harm_are_replaced() -> None:
    async with listening(echo) as (_, url):
        told = "x___prefill_addr_1.2.3.4:1___decode_addr_5.6.7.8:2_y"
        for bad in ("two words", "x" * 257, "é", told):
            answer = await ask(url, post(b"", x_request_id=bad))
            assert answer.header(b"x-request-id") not in (bad.encode(), None)


async def test_decisions_are_told_on_request() -> None:
    async with listening(echo) as (_, url):
        answer = await ask(url, post(b"", x_kvproxy_decision="1"))
        assert json.loads(answer.header(b"x-kvproxy-decision") or b"")["replica"] == "r0"
        assert (await ask(url, post(b""))).header(b"x-kvproxy-decision") is None


async def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    async with listening(echo, max_body=10) as (_, url), connected(url) as (reader, writer):
        writer.write(post(b"", content_length="11"))
        answer = await read_answer(reader)
        assert answer.status == 413
        assert "10 bytes" in str(error_of(answer.body)["message"])
        assert answer.header(b"x-kvproxy-error-code") == b"body_too_large"
        assert answer.header(b"connection") == b"close"
    async with listening(echo, max_body=10) as (_, url):
        assert (await ask(url, post(b"x" * 10))).status == 200


async def test_a_body_that_becomes_too_large_is_refused() -> None:
    async with listening(echo, max_body=10) as (_, url), connected(url) as (reader, writer):
        writer.write(request("POST", "/", [("transfer-encoding", "chunked")]))
        writer.write(b"6\r\nxxxxxx\r\n5\r\nxxxxx\r\n")
        assert (await read_answer(reader)).status == 413


async def test_a_body_that_does_not_come_in_time() -> None:
    async with listening(echo, body_timeout_s=0.05) as (_, url), connected(url) as (reader, writer):
        writer.write(post(b"half", content_length="8"))
        answer = await read_answer(reader)
        assert answer.status == 408
        assert answer.header(b"x-kvproxy-error-code") == b"request_timeout"
        assert answer.header(b"connection") == b"close"


async def test_a_body_is_asked_for_when_the_client_waits_for_that() -> None:
    async with listening(echo) as (_, url), connected(url) as (reader, writer):
        writer.write(post(b"", expect="100-continue", content_length="5"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        answer = await read_answer(reader)
        assert (answer.status, answer.body) == (200, b"hello")


async def test_a_client_of_http_1_0_knows_no_interim_answer() -> None:
    raw = post(b"", expect="100-continue", content_length="5").replace(b"HTTP/1.1", b"HTTP/1.0")
    async with listening(echo) as (_, url), connected(url) as (reader, writer):
        writer.write(raw)
        await asyncio.sleep(0.02)
        writer.write(b"hello")
        assert (await read_answer(reader)).status == 200


async def test_a_body_that_is_too_large_is_never_asked_for() -> None:
    async with listening(echo, max_body=4) as (_, url), connected(url) as (reader, writer):
        writer.write(post(b"", expect="100-continue", content_length="5"))
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413")


async def test_head_has_no_body() -> None:
    async with listening(echo) as (_, url), connected(url) as (reader, writer):
        for _ in range(2):
            writer.write(request("HEAD", "/v1/models/x"))
            answer = await read_answer(reader, "HEAD")
            assert (answer.status, answer.body) == (200, b"")


async def test_connections_are_used_again() -> None:
    async with listening(echo) as (_, url), connected(url) as (reader, writer):
        for body in (b"one", b"two"):
            writer.write(post(body))
            assert (await read_answer(reader)).body == body


async def test_connections_beyond_the_limit_are_told_so(caplog: pytest.LogCaptureFixture) -> None:
    turned_away: list[str] = []
    async with listening(echo, max_connections=1) as (server, url):
        server.turned_away = turned_away.append
        async with connected(url) as (reader, writer):
            writer.write(post(b"one"))
            assert (await read_answer(reader)).status == 200
            raw = post(b"two")
            writer.write(raw[:-1])
            await eventually(lambda: server.in_flight == 1)
            async with connected(url) as (refused, _):
                answer = await read_answer(refused)
                assert (answer.status, answer.header(b"retry-after")) == (429, b"1")
                assert await refused.read() == b""
            writer.write(raw[-1:])
            assert (await read_answer(reader)).body == b"two"
            assert (await ask(url, post(b"three"))).body == b"three"
        await ask(url, b"BREW / HTTP/1.1\r\n\r\n")
    first, *others, last = turned_away
    assert (first, set(others), last) == ("overloaded", {"gave_way"}, "bad_request")
    assert caplog.text.count("connections are refused") == 1


@pytest.mark.parametrize("begun", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost:"])
async def test_who_only_keeps_connections_open_keeps_nobody_out(begun: bytes) -> None:
    async with listening(echo, max_connections=3) as (server, url), AsyncExitStack() as stack:
        held = []
        for count in range(1, 4):
            held.append(await stack.enter_async_context(connected(url)))
            held[-1][1].write(begun)
            reached = [State.HEAD if begun else State.IDLE] * count
            # One after the other, or nobody knows which is the longest idle: loops count in
            # milliseconds.
            await eventually(lambda all_=reached: [c.state for c in server.connections] == all_)
            await asyncio.sleep(0.003)
        # Every newcomer is served, and no more are open than may be.
        for _ in range(5):
            async with connected(url) as (reader, writer):
                writer.write(post(b"one"))
                assert (await read_answer(reader)).body == b"one"
            await eventually(lambda: len(server.connections) <= 3)
        # The longest idle went first.
        assert await held[0][0].read() == b""


@pytest.mark.parametrize("started", [False, True])
async def test_a_client_that_leaves_cancels_its_handler(started: bool) -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await exchange.accept()
        if started:
            exchange.start(200, SSE, placement())
            exchange.send(b"data: {}\n\n")
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with listening(wait) as (server, url):
        async with connected(url) as (_, writer):
            writer.write(post(b"{}"))
            await reached.wait()
            assert server.in_flight == 1
        await cancelled.wait()


async def refuse(exchange: Exchange) -> None:
    raise ProxyError("no_replica", "none", retry_after_s=0.2)


async def test_refusals_say_when_to_come_back() -> None:
    async with listening(refuse) as (_, url):
        answer = await ask(url, post(b"{}", x_request_id="abc"))
        assert answer.status == 503
        assert error_of(answer.body)["message"] == "none"
        assert answer.header(b"retry-after") == b"1"
        assert answer.header(b"x-request-id") == b"abc"
        assert answer.header(b"x-kvproxy-error-code") == b"no_replica"


def breaks(headers: tuple[tuple[bytes, bytes], ...]) -> Handler:
    async def handle(exchange: Exchange) -> None:
        await exchange.accept()
        exchange.start(200, headers, placement())
        exchange.send(b"data: 1\n\n")
        raise ProxyError("upstream_broke", "broke off")

    return handle


async def test_a_broken_stream_ends_with_an_error_event() -> None:
    async with listening(breaks(SSE)) as (_, url):
        answer = await ask(url, post(b"{}"))
    assert answer.complete
    first, event, done, rest = answer.body.split(b"\n\n")
    assert (first, done, rest) == (b"data: 1", b"data: [DONE]", b"")
    assert error_of(event.removeprefix(b"data: "))["message"] == "broke off"


async def test_any_other_broken_answer_breaks_off() -> None:
    async with listening(breaks(JSON)) as (_, url):
        answer = await ask(url, post(b"{}"))
    assert answer.status == 200
    assert not answer.complete


async def test_a_mistake_of_ours_is_a_500_without_details() -> None:
    async def fail(exchange: Exchange) -> None:
        raise RuntimeError("secret detail")

    async with listening(fail) as (_, url):
        answer = await ask(url, post(b"{}"))
        assert answer.status == 500
        assert answer.header(b"x-kvproxy-error-code") == b"internal"
        assert b"secret" not in answer.body


async def test_draining_lets_answers_end() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        reached.set()
        await go_on.wait()
        await echo(exchange)

    async with listening(slow) as (server, url), connected(url) as (reader, writer):
        writer.write(post(b"hello"))
        await reached.wait()
        drain = asyncio.create_task(server.drain(30.0))
        go_on.set()
        assert (await read_answer(reader)).body == b"hello"
        await drain
        with pytest.raises(ConnectionRefusedError):
            await ask(url, post(b""))


async def test_draining_lets_those_end_whose_head_was_on_its_way() -> None:
    ends, begun = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.accept()
        if exchange.path == "/second":
            begun.set()
            await ends.wait()
        exchange.start(200, JSON, placement())
        exchange.end()

    raw = post(b"{}", "/second")
    async with listening(slow) as (server, url):
        async with connected(url) as (reader, writer), connected(url) as (first, begins):
            writer.write(raw[:9])
            begins.write(post(b"{}")[:-1])
            await eventually(lambda: server.in_flight == 1 and len(server.connections) == 2)
            await eventually(lambda: State.HEAD in {c.state for c in server.connections})
            drain = asyncio.create_task(server.drain(30.0))
            await asyncio.sleep(0)
            writer.write(raw[9:])
            await begun.wait()
            begins.write(b"}")
            assert (await read_answer(first)).status == 200
            await asyncio.sleep(0.05)
            ends.set()
            assert (await read_answer(reader)).status == 200
        await drain


async def test_draining_cuts_what_does_not_end() -> None:
    reached = asyncio.Event()

    async def never(exchange: Exchange) -> None:
        await exchange.accept()
        exchange.start(200, SSE, placement())
        reached.set()
        await asyncio.Event().wait()

    async with listening(never) as (server, url), connected(url) as (reader, writer):
        writer.write(post(b"{}"))
        await reached.wait()
        await server.drain(0.0)
        answer = await read_answer(reader)
        assert answer.complete
        assert b"shutting down" in answer.body


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        b"14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n",
        b"GET /own HTTP/1.1\r\n\r\n",
        b"GET /own HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ],
)
async def test_what_is_refused_and_whole_leaves_no_connection_behind(raw: bytes) -> None:
    async with listening(echo, max_body=10, max_connections=1) as (server, url):
        async with connected(url) as (reader, writer):
            writer.write(raw)
            assert (await read_answer(reader)).status in (400, 413)
            assert await reader.read() == b""
        await eventually(lambda: not server.connections)
        assert (await ask(url, post(b"one"))).body == b"one"


async def test_a_request_whose_client_left_before_it_began_is_none() -> None:
    begun: list[str] = []

    async def handler(exchange: Exchange) -> None:
        begun.append(exchange.path)

    async with listening(handler) as (server, _):
        pipe = Pipe(ClientConnection(server))
        pipe.client_sends(post(b"one"))
        assert server.in_flight == 1
        [connection] = server.connections
        connection.connection_lost(None)
        assert server.in_flight == 0
        for _ in range(3):
            await asyncio.sleep(0)
        assert (begun, server.in_flight) == ([], 0)
