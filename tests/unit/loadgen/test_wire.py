import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from loadgen.wire import Endpoint, Wire, WireError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nhi"


@contextlib.asynccontextmanager
async def raw_server(handler: Handler) -> AsyncIterator[Wire]:
    tasks: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wire = Wire(Endpoint(f"http://127.0.0.1:{port}"))
    try:
        yield wire
    finally:
        wire.close()
        server.close()
        for writer in tasks:
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return head + await reader.readexactly(length)


async def post(wire: Wire, body: bytes = b"{}") -> tuple[int, dict[str, str], bytes]:
    parts: list[bytes] = []
    done = await wire.exchange("POST", "/x", {}, body, lambda _, data: parts.append(data))
    assert done.sent <= done.written
    assert done.sent <= done.first_byte <= done.end <= time.monotonic()
    return done.status, done.headers, b"".join(parts)


async def test_an_exchange_and_a_large_body_arrive_whole() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(OK)

    async with raw_server(handler) as wire:
        assert await post(wire) == (200, {"x-a": "b", "content-length": "2"}, b"hi")
        body = bytes(range(256)) * 4000
        await post(wire, body)
        assert seen[1].endswith(body)
        assert seen[0].startswith(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_connections_are_kept_and_replaced_when_the_server_closed_them() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await read_request(reader)
            writer.write(OK)
        await writer.drain()

    async with raw_server(handler) as wire:
        for _ in range(4):
            assert (await post(wire))[0] == 200
        assert connections == 2


async def test_an_answer_without_keep_alive_is_not_reused() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(OK.replace(b"X-A: b", b"Connection: close"))
        await writer.drain()

    async with raw_server(handler) as wire:
        await post(wire)
        await post(wire)
        assert connections == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", "disconnect"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", "disconnect"),
        (b"garbage\r\n\r\n", "bad_http"),
    ],
)
async def test_broken_answers_have_a_kind(answer: bytes, kind: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)

    async with raw_server(handler) as wire:
        with pytest.raises(WireError) as caught:
            await post(wire)
        assert caught.value.kind == kind


async def test_nobody_listens(unused_tcp_port: int) -> None:
    with pytest.raises(WireError) as caught:
        await post(Wire(Endpoint(f"http://127.0.0.1:{unused_tcp_port}")))
    assert caught.value.kind == "connect"


async def test_cancelling_closes_the_connection() -> None:
    closed = asyncio.Event()
    asked = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        closed.set()

    async with raw_server(handler) as wire:
        task = asyncio.create_task(post(wire))
        await asked.wait()
        task.cancel()
        await asyncio.wait_for(closed.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_error_of_the_reader_ends_the_exchange() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await reader.read()

    def refuse(_: float, data: bytes) -> None:
        raise ValueError("no")

    async with raw_server(handler) as wire:
        with pytest.raises(ValueError, match="no"):
            await wire.exchange("POST", "/x", {}, b"{}", refuse)


@pytest.mark.parametrize("url", ["", "host:80", "ftp://x", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        Endpoint(url)


def test_a_prefix_is_kept_and_a_trailing_v1_is_not_doubled() -> None:
    head = Endpoint("http://h:1/base/v1/").head("GET", "/v1/models", {"A": "b"}, 0)
    assert head == b"GET /base/v1/models HTTP/1.1\r\nHost: h:1\r\nA: b\r\n\r\n"


async def test_a_request_lost_while_it_was_served_is_a_failure_and_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loadgen.wire.STALE_S", 0.05)
    asked = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await read_request(reader)
            asked += 1
            if asked == 2:
                await asyncio.sleep(0.1)
                return
            writer.write(OK)

    async with raw_server(handler) as wire:
        await post(wire)
        with pytest.raises(WireError):
            await post(wire)
    assert asked == 2


async def test_an_answer_that_only_the_end_of_the_connection_ends() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nhi")
        await writer.drain()

    async with raw_server(handler) as wire:
        for _ in range(2):
            assert await post(wire) == (200, {"x-a": "b"}, b"hi")
