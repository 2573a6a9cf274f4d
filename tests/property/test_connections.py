"""Whatever clients send, take or leave, and however requests end: nothing of it stays.

Clients and handlers are played at random, in virtual time, against the real listener and its
connections; in the end a client does nothing any more, which is the worst that it can do.
"""

import asyncio
from random import Random

import pytest

from kvproxy.adapters.http1.connection import ClientConnection
from kvproxy.adapters.http1.incoming import Limits
from kvproxy.adapters.http1.listener import HttpServer, Page
from kvproxy.core.errors import ProxyError
from kvproxy.core.pieces import whole
from kvproxy.proxy import Exchange
from tests.support.listeners import guard, page, placement
from tests.support.pipe import HIGH, Pipe
from tests.support.virtual_time import play_each
from tests.support.wire import post, request

LIMITS = Limits(400, 2000, body_timeout_s=3.0, keepalive_timeout_s=5.0, max_connections=6)
CHUNK_MAX = 40_000
CHAT = "/v1/chat/completions"
SSE = ((b"content-type", b"text/event-stream"),)
PLACED = placement()
CHUNKED = [("transfer-encoding", "chunked")]
PREFLIGHT = [("origin", "http://a"), ("access-control-request-method", "POST")]
UPGRADE = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "x" * 22 + "=="),
]
REQUESTS = [
    post(b"short", CHAT),
    post(b"x" * 390, CHAT),
    post(b"x" * 500, CHAT),
    post(b"half", CHAT, content_length="8"),
    post(b"", CHAT, content_length="4000"),
    post(b"last", CHAT, connection="close"),
    post(b"wait", CHAT, expect="100-continue"),
    post(b"banned", CHAT, x_banned="1"),
    request("POST", CHAT, CHUNKED) + b"3\r\none\r\n0\r\n\r\n",
    request("POST", CHAT, CHUNKED) + b"3\r\none\r\n0\r\ntrailer: 1\r\n\r\n",
    request("POST", CHAT, CHUNKED) + b"1f4\r\n" + b"x" * 500 + b"\r\n0\r\n\r\n",
    request("POST", CHAT, CHUNKED) + b"3\r\none\r\nzz\r\n",
    request("GET", "/own"),
    request("GET", "/own?large"),
    request("GET", "/own?large") * 6,
    request("GET", "/own", [("x-banned", "1")]),
    request("HEAD", "/own"),
    request("GET", "/own", CHUNKED) + b"0\r\n\r\n",
    request("OPTIONS", CHAT, PREFLIGHT),
    request("POST", "/admin/x") + b"",
    request("GET", "/v1/realtime?model=m", UPGRADE),
    b"GET /own HTTP/1.1\r\n\r\n",
    b"GET /own HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.0\r\ncontent-length: 2\r\n\r\nab",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 2500 + b"\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
]


class World:
    """One listener without a socket, and what its requests do."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.server = HttpServer(self.handle, {"/own": self.own}, LIMITS, guard, self.command)
        self.released = asyncio.Event()
        self.pipes: list[Pipe] = []
        self.begun = self.ended = 0

    def connect(self) -> None:
        self.pipes.append(Pipe(ClientConnection(self.server)))

    async def own(self, query: str) -> Page:
        await self.pause()
        return Page(b"x" * self.random.choice([3, CHUNK_MAX])) if query else await page(query)

    async def command(self, exchange: Exchange) -> Page:
        await exchange.accept()
        raise ProxyError("not_found", "no such command")

    async def pause(self) -> None:
        wait = self.random.random()
        if wait < 0.5:
            await asyncio.sleep(wait)
        elif wait < 0.55:
            await self.released.wait()

    async def handle(self, exchange: Exchange) -> None:
        self.begun += 1
        try:
            await self.answer(exchange)
        finally:
            self.ended += 1

    async def answer(self, exchange: Exchange) -> None:
        random = self.random
        await self.pause()
        if "x-banned" in exchange.header:
            raise ProxyError("unauthorized", "no")
        body = whole(await exchange.accept())
        if random.random() < 0.2:
            exchange.hold()
        await self.pause()
        self.may_fail()
        pressed = asyncio.Event()
        exchange.press = lambda full: pressed.clear() if full else pressed.set()
        if exchange.tunnels and random.random() < 0.8:
            exchange.start(101, (), PLACED)
            exchange.tunnel(exchange.send)
        else:
            framed = ((b"content-length", b"%d" % len(body)),)
            exchange.start(200, random.choice([SSE, (), framed]), PLACED)
        for _ in range(random.randrange(6)):
            exchange.send(b"x" * random.choice([1, 100, CHUNK_MAX]))
            await self.pause()
            self.may_fail()
            if exchange.congested:
                pressed.clear()
                await pressed.wait()
        exchange.press = None
        exchange.end()

    def may_fail(self) -> None:
        chance = self.random.random()
        if chance < 0.1:
            raise ProxyError("upstream_broke", "gone")
        if chance < 0.13:
            raise ValueError("a bug")

    async def play(self) -> None:
        """Some clients, each with some steps."""
        random = self.random
        for _ in range(random.randrange(1, 5)):
            self.connect()
            raw = b"".join(random.choices(REQUESTS, k=random.randrange(1, 6)))
            for piece in pieces(random, raw):
                for pipe in self.pipes:
                    step(random, pipe, piece if pipe is self.pipes[-1] else b"")
                await asyncio.sleep(random.choice([0, 0, 0, 0.01, 0.3]))


def pieces(random: Random, raw: bytes) -> list[bytes]:
    cuts = sorted(random.choices(range(len(raw) + 1), k=random.randrange(6)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


def step(random: Random, pipe: Pipe, piece: bytes) -> None:
    if pipe.gone:
        return
    if piece:
        pipe.client_sends(piece)
    chance = random.random()
    if chance < 0.04:
        pipe.client_closes()
    elif chance < 0.07:
        pipe.client_resets()
    elif chance < 0.1:
        pipe.client_vanishes()
    elif chance < 0.5:
        pipe.client_takes(random.choice([10, 5_000, 10**6]))


async def nothing_stays(seed: int) -> None:
    loop, wrong = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: wrong.append(context))
    world = World(Random(seed))
    server = world.server
    server.deadlines.start()
    await world.play()
    world.released.set()
    # The longest that anything takes: a request that comes slowly, answered to nobody, and its end.
    await asyncio.sleep(20 * (LIMITS.body_timeout_s + LIMITS.keepalive_timeout_s))
    left = [str(connection.state) for connection in server.connections]
    assert not left, f"connections left: {left}"
    assert not server.deadlines.members
    assert not server.in_flight, "requests left"
    assert world.begun == world.ended
    assert all(pipe.gone for pipe in world.pipes)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"tasks left: {others}"
    assert not wrong, f"the loop was told: {wrong}"
    # One piece more than what makes it full, and heads, errors and framing.
    most = max(pipe.unsent_max for pipe in world.pipes)
    assert most <= HIGH + CHUNK_MAX + 4096, f"{most} bytes were kept for a client"
    server.deadlines.stop()


@pytest.mark.parametrize("block", range(4))
def test_whatever_happens_nothing_of_it_stays(block: int) -> None:
    play_each(nothing_stays, range(100 * block, 100 * (block + 1)))
