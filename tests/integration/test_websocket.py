"""/v1/realtime: a real WebSocket client and server with kvproxy between them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.recording import Mark, answer, recording
from tests.support.wire import connected, read_answer, request

ASK = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
]
# More than all sockets and the proxy hold together.
FLOOD_BYTES = 2**27
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@dataclass
class Realtime:
    """A replica that sends back what it is sent; "close" makes it end the conversation."""

    models: tuple[str, ...] = ("m",)
    open: int = 0
    sent: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def talk(self, request: web.Request) -> web.StreamResponse:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if request.query.get("model") == "none":
            return web.json_response({"error": "no such model"}, status=404)
        socket = web.WebSocketResponse(max_msg_size=2**26)
        await socket.prepare(request)
        self.open += 1
        try:
            async for message in socket:
                if message.data == "flood":
                    for _ in range(FLOOD_BYTES // 2**20):
                        await socket.send_bytes(b"x" * 2**20)
                        self.sent += 2**20
                elif message.data == "close":
                    await socket.close(code=4001, message=b"as told")
                elif message.type is WSMsgType.TEXT:
                    await socket.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
        finally:
            self.open -= 1
        return socket

    async def list_models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": model} for model in self.models]})

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text="")


@asynccontextmanager
async def realtime(
    count: int = 1, **sections: object
) -> AsyncIterator[tuple[list[Realtime], Running]]:
    replicas = [Realtime() for _ in range(count)]
    servers = []
    for replica in replicas:
        app = web.Application()
        app.router.add_get("/v1/realtime", replica.talk)
        app.router.add_get("/v1/models", replica.list_models)
        app.router.add_get("/health", replica.list_models)
        app.router.add_get("/metrics", replica.metrics)
        servers.append(TestServer(app))
        await servers[-1].start_server()
        replica.url = str(servers[-1].make_url("")).rstrip("/")
    try:
        async with proxied([replica.url for replica in replicas], **sections) as running:
            yield replicas, running
            await settled(running.app)
    finally:
        for server in servers:
            await server.close()


async def test_messages_pass_both_ways() -> None:
    async with realtime() as ([replica], (app, url)), aiohttp.ClientSession() as client:
        async with client.ws_connect(f"{url}/v1/realtime?model=m", max_msg_size=2**26) as socket:
            for text in ("hello", "", "é" * 1000):
                await socket.send_str(text)
                assert await socket.receive_str() == text
            audio = bytes(range(256)) * 2**14
            await socket.send_bytes(audio)
            assert await socket.receive_bytes() == audio
            assert [r.load.in_flight for r in app.router.replicas] == [1]
            await socket.ping()
        assert socket.close_code == 1000
        await settled(app)
        await eventually(lambda: replica.open == 0)
    assert "x-request-id" in replica.headers[0]
    assert 'outcome="ok",replica=' in app.metrics.page().decode()


async def test_an_engine_may_end_it() -> None:
    async with (
        realtime() as (_, (_, url)),
        aiohttp.ClientSession() as client,
        client.ws_connect(f"{url}/v1/realtime") as socket,
    ):
        await socket.send_str("close")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (*(WSMsgType.CLOSE, 4001, "as told"),)


async def test_a_client_that_vanishes_is_noticed_by_the_engine() -> None:
    async with realtime() as ([replica], (app, url)), aiohttp.ClientSession() as client:
        socket = await client.ws_connect(f"{url}/v1/realtime")
        await socket.send_str("hello")
        await socket.receive_str()
        assert socket._response.connection is not None
        transport = socket._response.connection.transport
        assert transport is not None
        transport.abort()
        await settled(app)
        await eventually(lambda: replica.open == 0)


async def test_conversations_go_where_there_are_fewest() -> None:
    async with realtime(3) as (replicas, (_, url)), aiohttp.ClientSession() as client:
        sockets = [await client.ws_connect(f"{url}/v1/realtime") for _ in range(6)]
        assert [replica.open for replica in replicas] == [2, 2, 2]
        await asyncio.gather(*(socket.close() for socket in sockets))


async def test_a_refusal_is_an_ordinary_answer() -> None:
    async with realtime() as (_, (_, url)), aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(f"{url}/v1/realtime?model=none")
        assert refused.value.status == 404


async def test_keys_are_asked_for_and_their_models_count() -> None:
    keys = [{"name": "a", "sha256": sha256(b"sk-a").hexdigest(), "models": ["m"]}]
    async with (
        realtime(access={"keys": keys}) as ([replica], (_, url)),
        aiohttp.ClientSession() as client,
    ):
        for key, model, status in (("", "m", 401), ("sk-b", "m", 401), ("sk-a", "n", 404)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(
                    f"{url}/v1/realtime?model={model}",
                    headers={"authorization": f"Bearer {key}"},
                )
            assert refused.value.status == status
        async with client.ws_connect(
            f"{url}/v1/realtime?model=m", headers={"authorization": "Bearer sk-a"}
        ) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
    assert ["authorization" in headers for headers in replica.headers] == [False]


async def test_nothing_passes_before_the_engine_agrees() -> None:
    """Bytes behind the request wait for 101; behind any other answer they are nobody's."""
    agreed = asyncio.Event()
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda _: [agreed, SWITCHED + b"first", Mark.HOLD]
        async with connected(url) as (reader, writer):
            writer.write(request("GET", "/v1/realtime", ASK) + b"GET /smuggled HTTP/1.1\r\n\r\n")
            received = await replica.next()
            agreed.set()
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert b"connection: Upgrade\r\nupgrade: websocket\r\n" in head
            assert await reader.readexactly(5) == b"first"
        await settled(app)
        replica.script = lambda _: answer(b"{}", status="403 Forbidden")
        async with connected(url) as (reader, writer):
            writer.write(request("GET", "/v1/realtime", ASK) + request("GET", "/smuggled"))
            assert (await read_answer(reader)).status == 403
            assert await reader.read() == b""
        await settled(app)
    headers = dict(received.headers)
    assert (headers[b"connection"], headers[b"upgrade"]) == (b"Upgrade", b"websocket")
    assert [each.target for each in replica.received] == ["/v1/realtime"] * 2


@pytest.mark.parametrize(
    "headers",
    [
        [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "")],
        [*ASK, ("content-length", "4")],
        [*ASK, ("upgrade", "h2c")],
    ],
)
async def test_no_other_protocol_makes_a_tunnel(headers: list[tuple[str, str]]) -> None:
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda _: answer(b"plain")
        async with connected(url) as (reader, writer):
            writer.write(request("GET", "/v1/realtime", headers) + b"GET ")
            assert (await read_answer(reader)).body == b"plain"
        # An engine that switches though nobody asked for it is not believed.
        replica.script = lambda _: [SWITCHED + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]
        async with connected(url) as (reader, writer):
            writer.write(request("GET", "/v1/realtime", headers) + b"GET ")
            assert (await read_answer(reader)).status == 502
        await settled(app)
    assert all(b"upgrade" not in dict(each.headers) for each in replica.received)


async def test_who_takes_nothing_slows_the_other_side_down() -> None:
    """Megabytes towards a client that does not read stay with the replica, not in the proxy."""
    masked = b"\x81\x85\0\0\0\0flood"
    async with realtime() as ([replica], (_, url)), connected(url) as (reader, writer):
        writer.write(request("GET", "/v1/realtime", ASK) + masked)
        await reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: replica.sent > 0)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        before = -1
        while before != replica.sent:
            before = replica.sent
            await asyncio.sleep(0.2)
        assert replica.sent < FLOOD_BYTES / 2


async def test_silence_and_shutdown_end_it() -> None:
    async with (
        realtime(upstream={"idle_timeout_s": 2.0}) as (_, (app, url)),
        aiohttp.ClientSession() as client,
    ):
        socket = await client.ws_connect(f"{url}/v1/realtime")
        for _ in range(5):
            await asyncio.sleep(0.5)  # in all more than the silence that ends it
            await socket.send_str("I am here")
            await socket.receive_str()
        message = await socket.receive(timeout=30.0)
        assert message.type in (WSMsgType.CLOSED, WSMsgType.CLOSE, WSMsgType.CLOSING)
        await settled(app)
    async with (
        realtime(server={"grace_s": 0.1}) as ([replica], (app, url)),
        aiohttp.ClientSession() as client,
    ):
        socket = await client.ws_connect(f"{url}/v1/realtime")
        await app.server.drain(0.1)
        assert (await socket.receive(timeout=30.0)).type is not WSMsgType.TEXT
        await eventually(lambda: replica.open == 0)
