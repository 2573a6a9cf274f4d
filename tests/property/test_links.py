"""Whatever replicas send, and whenever they stop: who asked is told, and nothing stays."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, cast

import pytest

from kvproxy.adapters.http1.deadlines import Deadlines
from kvproxy.adapters.http1.link import Link
from kvproxy.core.answer import AnswerWatch
from kvproxy.core.echo import Tap, TapBudget
from kvproxy.core.errors import ProxyError
from kvproxy.proxy import Exchange
from kvproxy.relaying import Stream
from tests.support.pipe import Pipe
from tests.support.virtual_time import play_each, run_virtually

IDLE_TIMEOUT_S = 2.0
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n"
ANSWERS = [
    WHOLE,
    CHUNKS,
    WHOLE + WHOLE,
    CHUNKS + b"more",
    b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
    b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" * 3,
    b"HTTP/1.1 200 OK\r\n\r\nto the end",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwell",
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nraw",
    b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nwell",
    b"SSH-2.0-OpenSSH_9.7\r\n",
    b"",
]


class Client:
    """What a link needs of an exchange."""

    congested = False
    press: Callable[[bool], None] | None = None

    def __init__(self) -> None:
        self.sink: Callable[[bytes], None] | None = None

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        self.sink = sink

    def hold_back(self, full: bool) -> None:
        """Sends nothing anyway."""


class Reader:
    """What is done with a body: given on a part at a time, or from its first on as a stream."""

    def __init__(self, streams: bool) -> None:
        self.got = b""
        self._streams = streams
        self.watch: AnswerWatch | None = None

    def feed(self, part: bytes) -> Stream | None:
        self.got += part
        if not self._streams or self.watch is not None:
            return None
        self.watch = AnswerWatch((), Tap((b"sign",), TapBudget(2**20)))
        self.watch.feed(part)
        return Stream(self.watch, self._send, self._write)

    def _send(self, part: bytes) -> None:
        self.got += part

    def _write(self, chunk: bytes) -> None:
        self.got += chunk.partition(b"\r\n")[2][:-2]


async def asks(link: Link, client: Client, random: Random, ended: list[str]) -> None:
    """Some requests, one after the other, as long as the connection can be used."""
    for _ in range(3):
        method = random.choice(["POST", "POST", "HEAD"])
        try:
            link.ask(method, b"head", b"body", tunnels=random.random() < 0.3)
            await link.answered()
            reader = Reader(random.random() < 0.5)
            try:
                await link.relay(reader.feed, cast(Exchange, client))
            finally:
                # Whatever came behind an answer is no part of it.
                sized = not reader.got.startswith(b"to the end"[: len(reader.got)])
                assert len(reader.got) <= 4 or link.tunnelled or not sized
            ended.append("answered" if reader.watch is None else "streamed")
        except ProxyError as error:
            ended.append(error.code)
        if not link.rest():
            break
    link.close()


async def nothing_stays(seed: int) -> str:
    random, loop = Random(seed), asyncio.get_running_loop()
    wrong: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: wrong.append(context))
    deadlines = Deadlines(IDLE_TIMEOUT_S)
    deadlines.start()
    link = Link("r", IDLE_TIMEOUT_S, deadlines)
    pipe, client, ended = Pipe(link), Client(), list[str]()
    asking = asyncio.create_task(asks(link, client, random, ended))
    await asyncio.sleep(0)
    for _ in range(random.randrange(12)):
        play(random, link, pipe, client)
        await asyncio.sleep(random.choice([0, 0, 0.1, 1.0]))
    if client.press is not None:
        # Clients that take nothing are left in time.
        client.press(False)
    if random.random() < 0.2:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        # As whoever asked does.
        link.close()
    await asyncio.sleep(6 * IDLE_TIMEOUT_S)
    assert asking.done(), f"still asking while {link.phase}"
    assert asking.cancelled() or asking.exception() is None
    assert pipe.gone
    assert not deadlines.members
    assert not wrong, f"the loop was told: {wrong}"
    deadlines.stop()
    return ",".join(ended)


def play(random: Random, link: Link, pipe: Pipe, client: Client) -> None:
    """One thing that a replica, the network or a client does."""
    if pipe.gone:
        return
    chance = random.random()
    if chance < 0.6:
        raw = random.choice(ANSWERS)
        cut = random.randrange(len(raw) + 1)
        pipe.client_sends(raw[:cut])
        if random.random() < 0.8:
            pipe.client_sends(raw[cut:])
    elif chance < 0.68:
        pipe.client_closes()
    elif chance < 0.73:
        pipe.client_resets()
    elif chance < 0.76:
        link.give_up()
    elif chance < 0.79:
        link.cut()
    elif client.sink is not None and chance < 0.85:
        client.sink(b"of a tunnel")
    elif client.press is not None:
        client.press(random.random() < 0.5)
    pipe.client_takes(10**6)


@pytest.mark.parametrize("block", range(4))
def test_whatever_happens_nothing_of_it_stays(block: int) -> None:
    play_each(nothing_stays, range(150 * block, 150 * (block + 1)))


def test_the_stories_have_something_to_tell() -> None:
    found: set[str] = set()

    async def told(seed: int) -> None:
        found.update((await nothing_stays(seed)).split(","))

    for seed in range(150):
        run_virtually(told(seed))
    assert found >= {"answered", "streamed", "upstream_lost", "upstream_broke", "upstream_timeout"}
