"""Two engines whose HBM is too small for the conversations they serve: what is predicted, with what
the engines announce and without it."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

import aiohttp
import orjson

from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, Fleet
from loadgen.emulator.fleet import Listener
from tests.support.proxies import eventually, proxied, settled

CONVERSATIONS, TURNS, AT_A_TIME = 20, 10, 2
BLOCK, SPEED = 16, 10.0
ENGINE = EmulatorSettings(
    model="m", hbm_tokens=40_000, prefill_tok_s=10_000, time_scale=SPEED, kv_events=True
)
# The proxy lives in real time: engine seconds divided by the engine's speed.
SECTIONS = {
    "score": {"prefill_tok_s": int(10_000 * SPEED), "move_margin_s": 1 / SPEED, "base_s": 0.001},
    "admission": {"backlog_s": 0.25 / SPEED},
}


@dataclass
class Run:
    """Tokens by which predictions were off, and what each was made from."""

    off: list[int] = field(default_factory=list)
    cached: int = 0
    prompt: int = 0
    sources: Counter[str] = field(default_factory=Counter)

    @property
    def right(self) -> float:
        return sum(abs(off) <= BLOCK for off in self.off) / len(self.off)

    def __str__(self) -> str:
        wrong = sorted(off for off in self.off if abs(off) > BLOCK)
        return (
            f"{100 * self.right:.1f} % of {len(self.off)} within a block, made from "
            f"{dict(self.sources)}, {100 * self.cached / self.prompt:.0f} % cached; the rest "
            f"off by {wrong}"
        )


async def replay(*proxies: str, seed: int = 1, conversations: int = CONVERSATIONS) -> Run:
    """Conversations that only grow, a few turns at a time, each turn through the next proxy."""
    run, random = Run(), Random(seed)
    slots = asyncio.Semaphore(AT_A_TIME)

    def text(tokens: int) -> str:
        return random.randbytes(2 * tokens).hex()

    system = {"role": "system", "content": text(500)}

    async def converse(number: int, client: aiohttp.ClientSession) -> None:
        messages = [system, {"role": "user", "content": text(2500)}]
        for step in range(TURNS):
            url = proxies[(number + step) % len(proxies)]
            async with slots:
                await turn(number, messages, client, url)
            messages += [
                {"role": "assistant", "content": text(150)},
                {"role": "user", "content": text(200)},
            ]

    async def turn(
        number: int, messages: list[dict[str, str]], client: aiohttp.ClientSession, url: str
    ) -> None:
        body = {"model": "m", "max_tokens": 20, "messages": messages}
        headers = {"x-session-id": f"conversation {number}", "x-kvproxy-decision": "1"}
        async with client.post(
            f"{url}/v1/chat/completions", json=body, headers=headers
        ) as response:
            assert response.status == 200, await response.text()
            usage = orjson.loads(await response.read())["usage"]
            decision = orjson.loads(response.headers["x-kvproxy-decision"])
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        run.off.append(decision["predicted_cached_tokens"] - cached)
        run.sources[decision["source"]] += 1
        run.cached += cached
        run.prompt += usage["prompt_tokens"]

    async with aiohttp.ClientSession() as client:
        await asyncio.gather(*(converse(number, client) for number in range(conversations)))
    return run


def listening(app: App) -> bool:
    return all(replica.kv_events for replica in app.router.replicas)


async def under(events: str, engine: EmulatorSettings = ENGINE) -> Run:
    fleet = Fleet(engine, 2)
    await fleet.start()
    try:
        async with proxied(fleet.urls, events={"enabled": events}, **SECTIONS) as (app, url):
            if events == "on":
                await eventually(lambda: listening(app))
            run = await replay(url)
            await settled(app)
    finally:
        await fleet.stop()
    print(f"events {events}: {run}")
    return run


async def test_events_tell_what_is_cached_under_eviction() -> None:
    run = await under("on")
    assert run.sources["events"] > 0.5 * len(run.off)
    assert run.right >= 0.98


async def test_engines_that_name_no_requests_are_asked_for_tokens() -> None:
    """SGLang's events, found by its own page."""
    run = await under("on", replace(ENGINE, engine="sglang"))
    assert run.sources["events"] > 0.5 * len(run.off)
    assert run.right >= 0.97


async def test_history_alone_tells_nearly_as_well() -> None:
    run = await under("off")
    assert set(run.sources) == {"history"}
    assert run.right >= 0.9


async def test_a_restart_and_lost_batches_are_noticed_at_once() -> None:
    """What the index holds is what the engine holds, whatever happened to the events."""
    fleet = Fleet(ENGINE, 1)
    await fleet.start()
    [listener] = fleet.listeners
    events = {"enabled": "on", "idle_s": 0.1}
    try:
        async with proxied(fleet.urls, events=events, **SECTIONS) as (app, url):
            await eventually(lambda: listening(app))
            async with aiohttp.ClientSession() as client:
                async with client.post(listener.url + "/emulator/events", json={"drop": 3}) as told:
                    assert told.status == 200
                await replay_briefly(client, url)
                await eventually(lambda: announced(app) == contents(listener))
                await listener.crash(True)
                await listener.restart()
                await eventually(lambda: announced(app) == 0)
                await eventually(lambda: bool(app.router.ready()))
                await replay_briefly(client, url)
                await eventually(lambda: announced(app) == contents(listener) > 0)
            await settled(app)
    finally:
        await fleet.stop()


async def replay_briefly(client: aiohttp.ClientSession, url: str) -> None:
    for number in range(5):
        content = f"{number} " * 400
        body = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": content}]}
        async with client.post(f"{url}/v1/chat/completions", json=body) as response:
            assert response.status == 200, await response.text()


def announced(app: App) -> int:
    return app.router.holdings.index.pairs


def contents(listener: Listener) -> int:
    assert listener.replica is not None
    return len(listener.replica._engine._store.hbm.contents())
