"""A real engine killed in the middle of a stream: what its client sees, where the next turn goes,
and that the engine is used, and warm, when it is back."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import orjson
import pytest

from kvproxy.core.life_cycle import Health
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.realstack import engine as real
from tests.support.realstack.fleet import Fleet
from tests.support.realstack.places import default_places
from tests.support.realstack.processes import free_ports, running
from tests.support.wire import WireAnswer, ask, connected, post, read_body, read_headers, request

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

SYSTEM = {"role": "system", "content": "Say what you see, and nothing else. " * 300}
PROBE = {"interval_s": 0.5, "unhealthy_after": 1}
PIECE = b"data: "


@dataclass
class Killable:
    """An engine on a port of its own, which it has again after it was killed."""

    port: int
    index: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> AbstractAsyncContextManager[Process]:
        places = default_places()
        command = real._command(places, self.port, real.CACHE_BLOCKS)
        log = places.logs / f"killed-{self.index}.log"
        environment = real._environment(places, self.index)
        return running(command, environment, log, f"{self.url}/health")


@asynccontextmanager
async def two() -> AsyncIterator[tuple[list[Killable], list[Process], AsyncExitStack]]:
    engines = [Killable(port, index) for index, port in enumerate(free_ports(2))]
    async with AsyncExitStack() as stack:
        starts = [stack.enter_async_context(each.start()) for each in engines]
        yield engines, list(await asyncio.gather(*starts)), stack


def turn(said: str, tokens: int, *, stream: bool = True) -> bytes:
    body = {
        "model": real.MODEL,
        "messages": [SYSTEM, {"role": "user", "content": said}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": stream,
    }
    if stream:
        del body["ignore_eos"]
    return orjson.dumps(body)


def text(body: bytes) -> str:
    events = [line[6:] for line in body.split(b"\n\n") if line.startswith(PIECE + b"{")]
    chunks = [orjson.loads(event) for event in events]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def cut(
    proxy: Running, engines: list[Killable], processes: list[Process], body: bytes
) -> tuple[WireAnswer, int]:
    """The answer, and which engine was killed when three events of it were there."""
    async with connected(proxy.url) as (reader, writer):
        writer.write(post(body, x_session_id="cut"))
        _, headers = await read_headers(reader)
        named = {name.lower(): value.decode() for name, value in headers}
        which = [each.url[7:] for each in engines].index(named[b"x-kvproxy-replica"])
        seen = b""
        while seen.count(PIECE) < 3:
            seen += await reader.readuntil(b"\n\n")
        os.killpg(processes[which].pid, signal.SIGKILL)
        # What was read belongs to the same chunks.
        reader.feed_data(b"")
        buffered = bytes(reader._buffer)
        reader._buffer.clear()
        reader._buffer.extend(seen + buffered)
        got = await read_body(reader, headers, to_end=True)
    return WireAnswer(200, headers, got, complete=True), which


def compared(got: bytes, whole: bytes) -> None:
    """Up to the cut the text is that of an answer that was not cut. What follows need not be: the
    other engine reads what was generated as text, which may be other tokens than were generated."""
    before, after = text(got.partition(b": continued")[0]), text(got)
    assert before
    assert text(whole).startswith(before)
    pairs = zip(after, text(whole), strict=False)
    alike = next((at for at, (one, other) in enumerate(pairs) if one != other), len(after))
    print(f"\ncut at character {len(before)}; {alike} of {len(text(whole))} as uncut", end=", ")
    print(f"{len(after)} in all")
    if b": continued" in got:
        # No token is lost at the seam: both end at the same limit, and this model's are characters.
        assert len(after) == len(text(whole))


@pytest.mark.parametrize("goes_on", [False, True], ids=["error event", "goes on"])
async def test_a_killed_engine(fleet: Fleet, goes_on: bool) -> None:
    await fleet._stop()  # memory is for one pair of engines
    upstream = {"continue_streams": goes_on}
    async with two() as (engines, processes, stack):
        urls = [each.url for each in engines]
        async with proxied(urls, probe=PROBE, upstream=upstream) as proxy:
            for index in range(4):  # what conversations share becomes known
                assert (await ask(proxy.url, post(turn(f"{index}", 4, stream=False)))).status == 200
            whole = await ask(urls[0], post(turn("a long story", 400)))
            got, which = await cut(proxy, engines, processes, turn("a long story", 400))
            assert got.body.endswith(b"data: [DONE]\n\n")
            assert (b'"error"' in got.body) is not goes_on
            assert (b": continued" in got.body) is goes_on
            compared(got.body, whole.body)
            dead = proxy.app.router.replicas[which]
            await eventually(lambda: dead.health is Health.EJECTED, 30)
            after = await ask(proxy.url, post(turn("and then?", 8), x_session_id="cut"))
            assert after.status == 200
            assert after.header(b"x-kvproxy-replica") == engines[1 - which].url[7:].encode()
            await stack.enter_async_context(engines[which].start())
            await eventually(lambda: dead.health is Health.READY, 60)
            page = (await ask(proxy.url, request("GET", "/metrics"))).body
            assert b'kvproxy_warm_ups_total{outcome="sent"} 1.0' in page
            direct = await ask(engines[which].url, post(turn("hello", 4, stream=False)))
            usage = orjson.loads(direct.body)["usage"]
            print(f"back with {usage['prompt_tokens_details']['cached_tokens']} tokens cached")
            assert usage["prompt_tokens_details"]["cached_tokens"] > 1000
            await settled(proxy.app)
