"""Replicas whose HBM is lost and whose DRAM is not: an LMCache coordinator tells who has what."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, Fleet
from tests.support.proxies import eventually, proxied, settled

ENGINE = EmulatorSettings(
    model="m", hbm_tokens=40_000, dram_tokens=100_000, time_scale=20.0, lmcache=True
)
PROMPT_TOKENS = 4000


@asynccontextmanager
async def world(kind: str) -> AsyncIterator[tuple[Fleet, App, str]]:
    """Two replicas and a proxy that asks the coordinator, or the controller before it."""
    fleet = Fleet(ENGINE, 2)
    await fleet.start()
    assert fleet.coordinator is not None
    pairs = [f"node-{n}={url.removeprefix('http://')}" for n, url in enumerate(fleet.urls)]
    lmcache = {kind: fleet.coordinator.url, "interval_s": 0.01, "instances": pairs}
    try:
        async with proxied(fleet.urls, lmcache=lmcache) as (app, url):
            yield fleet, app, f"{url}/v1/chat/completions"
            await settled(app)
    finally:
        await fleet.stop()


async def ask(url: str, session: str, *texts: str) -> dict[str, Any]:
    """The decision, with what the engine reported beside it."""
    roles = ("user", "assistant", "user")
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    body = {"model": "m", "max_tokens": 4, "messages": messages}
    headers = {"x-session-id": session, "x-kvproxy-decision": "1"}
    async with (
        aiohttp.ClientSession() as client,
        client.post(url, json=body, headers=headers) as response,
    ):
        answer = orjson.loads(await response.read())
        assert response.status == 200, answer
        decision: dict[str, Any] = orjson.loads(response.headers["x-kvproxy-decision"])
    usage = answer["usage"]
    decision["reported"] = usage["prompt_tokens_details"]["cached_tokens"]
    return decision


async def lose_hbm(fleet: Fleet, app: App) -> None:
    """Of the replicas, and of what the proxy remembers to have sent there."""
    async with aiohttp.ClientSession() as client:
        for url in fleet.urls:
            async with client.post(f"{url}/reset_prefix_cache") as response:
                assert response.status == 200
    for replica in app.router.replicas:
        replica.hbm.clear()


@pytest.mark.parametrize("kind", ["coordinator_url", "controller_url"])
async def test_a_conversation_goes_where_dram_holds_it(kind: str) -> None:
    async with world(kind) as (fleet, app, url):
        texts = [f"{number:03} " * PROMPT_TOKENS for number in range(4)]
        loadable = app.router.holdings.loadable
        # All at a time, so that both replicas get some.
        first = await asyncio.gather(*(ask(url, f"s{n}", text) for n, text in enumerate(texts)))
        assert len({each["replica"] for each in first}) == 2
        await eventually(lambda: len(loadable) == len(texts))
        await lose_hbm(fleet, app)
        for number, text in enumerate(texts):
            # Another session: nothing but what is held tells where this goes on.
            again = await ask(url, f"another {number}", text, "aaa ", "bbb ")
            print(again)
            assert again["replica"] == first[number]["replica"]
            assert again["source"] == "coordinator"
            assert again["predicted_tiers"]["hbm"] < 256
            assert again["predicted_tiers"]["dram"] > PROMPT_TOKENS - 512
            assert abs(again["predicted_cached_tokens"] - again["reported"]) <= ENGINE.block_size
        page = app.metrics.page().decode()
        [told] = re.findall(r'kvproxy_tokenised_prompts_total\{outcome="asked"\} (\S+)', page)
        assert float(told) >= len(texts)
        assert 'kvproxy_tokenised_prompts_total{outcome="unlike"} 0.0' in page
        tiers = re.findall(r'kvproxy_predicted_tokens_total\{.*tier="dram"\} (\S+)', page)
        assert sum(map(float, tiers)) > len(texts) * (PROMPT_TOKENS - 512)


async def test_without_anybody_to_ask_dram_is_modelled() -> None:
    fleet = Fleet(replace(ENGINE, lmcache=False), 2)
    await fleet.start()
    try:
        async with proxied(fleet.urls, lmcache={"dram_tokens": 100_000}) as (app, url):
            texts = [f"{number:03} " * PROMPT_TOKENS for number in range(4)]
            path = f"{url}/v1/chat/completions"
            first = await asyncio.gather(*(ask(path, f"s{n}", t) for n, t in enumerate(texts)))
            await lose_hbm(fleet, app)
            for number, text in enumerate(texts):
                again = await ask(path, f"another {number}", text, "aaa ", "bbb ")
                assert (again["replica"], again["source"]) == (first[number]["replica"], "history")
                assert again["predicted_tiers"]["dram"] > PROMPT_TOKENS - 512
                assert abs(again["predicted_cached_tokens"] - again["reported"]) <= 256
    finally:
        await fleet.stop()


async def test_without_a_coordinator_history_goes_on() -> None:
    async with world("coordinator_url") as (fleet, app, url):
        assert fleet.coordinator is not None
        text = "aaa " * PROMPT_TOKENS
        first = await ask(url, "s", text)
        await eventually(lambda: len(app.router.holdings.loadable) == 1)
        fleet.coordinator.silent = True
        await eventually(lambda: len(app.router.holdings.loadable) == 0)
        again = await ask(url, "s", text, "aaa ", "bbb ")
        assert (again["replica"], again["source"]) == (first["replica"], "history")
        assert again["reported"] >= PROMPT_TOKENS - ENGINE.block_size
