"""A client that leaves frees its replica at once, wherever its request was."""

import asyncio
import gc
import os
from pathlib import Path
from random import Random

import aiohttp
import orjson
import pytest

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.recording import Answer, Mark, answer, recording
from tests.support.wire import ask, connected, post, request

CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
HEAD, FIRST, *_ = answer(
    b"data: 1\n\n", headers=[(b"content-type", b"text/event-stream")], chunked=True
)
# Generous for a busy machine; the figure itself is printed.
CLOSED_WITHIN_S = 1.0


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    ("script", "read"),
    [([Mark.HOLD], 0), ([HEAD, Mark.HOLD], 1), ([HEAD, FIRST, Mark.HOLD], 40)],
    ids=["before the answer", "before the first token", "inside the stream"],
)
async def test_the_upstream_is_closed_at_once(script: Answer, read: int, how: str) -> None:
    loop = asyncio.get_running_loop()
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda received: script
        async with connected(url) as (reader, writer):
            writer.write(post(CHAT))
            received = await replica.next()
            await reader.readexactly(read)
            assert app.router.replicas[0].load.in_flight == 1
            left_at = loop.time()
            if how == "close":
                writer.close()
            else:
                writer.transport.abort()
            await received.gone.wait()
        took_s = received.gone_at - left_at
        print(f"upstream closed after {took_s * 1000:.2f} ms")
        assert took_s < CLOSED_WITHIN_S
        await settled(app)


async def test_a_client_that_leaves_during_its_upload_never_reaches_a_replica() -> None:
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        for cut in (1, 20, len(CHAT) - 1):
            async with connected(url) as (_, writer):
                writer.write(post(CHAT)[: -len(CHAT) + cut])
                await eventually(lambda: app.server.in_flight == 1)
            await settled(app)
    assert replica.received == []


async def test_a_client_that_stopped_reading_and_leaves() -> None:
    """The relay waits for room to write; leaving ends that wait too."""
    endless = [HEAD, *[b"8000\r\n" + b"x" * 0x8000 + b"\r\n"] * 2000, Mark.HOLD]
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda received: endless
        async with connected(url) as (reader, writer):
            writer.write(post(CHAT))
            received = await replica.next()
            await reader.readexactly(1)
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            assert not received.gone.is_set()
        await received.gone.wait()
        await settled(app)


async def state(url: str) -> dict[str, int]:
    found: dict[str, int] = orjson.loads((await ask(url, request("GET", "/emulator/state"))).body)
    return found


async def idle(url: str) -> bool:
    now = await state(url)
    return not (now["running"] or now["waiting"] or now["inflight"])


@pytest.mark.parametrize("stream", [True, False])
async def test_the_engine_stops_working_for_it(stream: bool) -> None:
    """One request computes its prompt, the next waits for it; both leave."""
    slow = EmulatorSettings(model="m", prefill_tok_s=10.0, max_num_seqs=1)
    body = CHAT if stream else CHAT.replace(b"true", b"false")
    async with emulated(slow) as [engine], proxied([engine]) as (app, url):
        async with connected(url) as (_, first), connected(url) as (_, second):
            first.write(post(body))
            second.write(post(body))

            async def both_arrived() -> bool:
                now = await state(engine)
                return now["running"] + now["waiting"] == 2

            await eventually(both_arrived)
        await eventually(lambda: idle(engine))
        await settled(app)


async def test_random_cancellations_leave_nothing_behind(request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("hypothesis_seed")
    print(f"seed {seed}")
    random = Random(seed)
    engine = EmulatorSettings(
        model="m", hbm_tokens=20_000, prefill_tok_s=20_000, chunk_interval_s=0.01
    )
    async with emulated(engine, n=3) as urls:
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        patient = {"keepalive_s": 0.5, "connect_timeout_s": 60}
        async with proxied(urls, upstream=patient, probe={"timeout_s": 60}) as running:
            outcomes = await cancel_at_random(running, random, count=300)
            await settled(running.app)
            for url in urls:
                await eventually(lambda url=url: idle(url))  # type: ignore[misc]
        print(f"outcomes {outcomes}")
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        await eventually(lambda: open_sockets() <= sockets)
    assert outcomes["cancelled"] >= 50
    assert outcomes["done"] >= outcomes["patient"] >= 20


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_ten_thousand_aborts(request: pytest.FixtureRequest) -> None:
    """All at random points: nothing is held, open or running afterwards, and the loop never waited.

    Warnings are errors here, those of forgotten sockets and tasks included.
    """
    seed, wanted = request.config.getoption("hypothesis_seed"), 10_000
    random, cancelled, asked = Random(seed), 0, 0
    engine = EmulatorSettings(
        model="m", hbm_tokens=20_000, prefill_tok_s=100_000, chunk_interval_s=0.01
    )
    async with emulated(engine, n=3) as urls:
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        patient = {"keepalive_s": 0.5, "connect_timeout_s": 60}
        async with proxied(urls, upstream=patient, probe={"timeout_s": 60}) as running:
            while cancelled < wanted:
                outcomes = await cancel_at_random(running, random, count=500)
                cancelled, asked = cancelled + outcomes["cancelled"], asked + 500
            await settled(running.app)
            for url in urls:
                await eventually(lambda url=url: idle(url))  # type: ignore[misc]
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        await eventually(lambda: open_sockets() <= sockets)
    gc.collect()
    print(f"\nseed {seed}: {cancelled} aborts of {asked} requests; nothing held, open or running")


async def cancel_at_random(running: Running, random: Random, count: int) -> dict[str, int]:
    loop = asyncio.get_running_loop()
    outcomes = {"cancelled": 0, "done": 0, "patient": 0}

    async def one(body: bytes, session: str) -> None:
        headers = {"content-type": "application/json", "x-session-id": session}
        url = f"{running.url}/v1/chat/completions"
        async with client.post(url, data=body, headers=headers) as response:
            assert response.status == 200, await response.text()
            await response.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        tasks = []
        for _ in range(count):
            prefix = "shared " * random.randrange(300)
            own = str(random.random()) * random.randrange(1, 100)
            body = {
                "model": "m",
                "messages": [{"role": "user", "content": prefix + own}],
                "stream": random.random() < 0.7,
                "max_tokens": random.randrange(1, 30),
            }
            start = one(orjson.dumps(body), random.choice("abcdef"))
            task = asyncio.create_task(start)
            tasks.append(task)
            if random.random() < 0.8:
                loop.call_later(random.expovariate(2.0), task.cancel)
            else:
                outcomes["patient"] += 1
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, asyncio.CancelledError):
                outcomes["cancelled"] += 1
            elif result is None:
                outcomes["done"] += 1
            else:
                raise result
    return outcomes


def open_sockets() -> int:
    """0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return 0
    links = (os.readlink(entry) for entry in folder.iterdir() if entry.is_symlink())
    return sum(link.startswith("socket:") for link in links)
