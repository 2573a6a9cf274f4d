"""What LMCache holds outlives the replicas' HBM, and its coordinator tells who holds it."""

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest

from kvproxy.app import App
from kvproxy.core.lmcache import Holdings
from kvproxy.core.types import Tier
from tests.support.proxies import Running, eventually, settled
from tests.support.realstack.dialogue import library_text
from tests.support.realstack.engine import MODEL, Engine
from tests.support.realstack.fleet import Tiered
from tests.support.realstack.lmcache import CHUNK_TOKENS, DRAM_GB
from tests.support.realstack.patience import WITHIN_S, patient
from tests.support.realstack.places import default_places
from tests.support.wire import ask, post

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

CHARACTERS = 16_000
# Of KV that one token of the tiny model takes: two layers, K and V, one head of 64, two bytes.
TOKEN_BYTES = 512


def _body(start: int) -> dict[str, Any]:
    text = library_text()[start : start + CHARACTERS]
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 2,
    }


def _next(body: dict[str, Any]) -> dict[str, Any]:
    """The turn after it."""
    more = [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And then?"}]
    return body | {"messages": [*body["messages"], *more]}


def _lmcache(tiered: Tiered) -> dict[str, object]:
    pairs = zip(tiered.servers, tiered.engines, strict=True)
    return {
        "coordinator_url": tiered.coordinator_url,
        "interval_s": 0.1,
        "instances": [f"{server.instance_id}={_id(engine)}" for server, engine in pairs],
    }


def _id(engine: Engine) -> str:
    return engine.url.removeprefix("http://")


class _Client:
    def __init__(self, running: Running, session: aiohttp.ClientSession) -> None:
        self._running = running
        self._session = session

    async def ask(self, body: dict[str, Any], session_id: str) -> dict[str, Any]:
        """The decision, with prompt and cached tokens as the engine reported them."""
        url = f"{self._running.url}/v1/chat/completions"
        headers = {"x-session-id": session_id, "x-kvproxy-decision": "1"}
        async with self._session.post(url, json=body, headers=headers) as response:
            answer = await response.json()
            assert response.status == 200, answer
            decision: dict[str, Any] = json.loads(response.headers["x-kvproxy-decision"])
        usage = answer["usage"]
        decision["prompt"] = usage["prompt_tokens"]
        decision["cached"] = usage["prompt_tokens_details"]["cached_tokens"]
        return decision

    async def token_ids(self, body: dict[str, Any]) -> list[int]:
        url = f"{self._running.url}/v1/chat/completions/render"
        async with self._session.post(url, json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            ids: list[int] = answer["token_ids"]
            return ids


async def _holdings(app: App, token_ids: list[int]) -> Holdings:
    assert app.sources.lmcache is not None
    found = await app.sources.lmcache.lookup(token_ids, str(default_places().model), "")
    assert found is not None
    return found.holdings


def _told_tokens(app: App) -> int:
    """What the coordinator has said of all prompts so far."""
    told = app.router.holdings.loadable._told.values()
    return sum(sum(tiers.values()) for each in told for tiers in each.by_replica.values())


def _in_hbm(app: App) -> int:
    """Blocks that engines have announced to hold there."""
    index = app.router.holdings.index
    return sum(len(source.tiers.get(Tier.HBM, ())) for _, _, source in index)


async def test_a_conversation_goes_on_where_dram_holds_it_after_a_reset(tiered: Tiered) -> None:
    """Under other session ids, so that nothing but what is held tells where to go."""
    async with (
        patient([engine.url for engine in tiered.engines], lmcache=_lmcache(tiered)) as running,
        aiohttp.ClientSession() as session,
    ):
        app, client = running.app, _Client(running, session)
        bodies = [_body(number * CHARACTERS) for number in range(4)]
        # All at a time, so that both replicas get some.
        asking = (client.ask(body, f"s{number}") for number, body in enumerate(bodies))
        first = await asyncio.gather(*asking)
        assert len({each["replica"] for each in first}) == 2
        assert max(each["cached"] for each in first) < CHUNK_TOKENS, "nobody had them before"
        whole = [each["prompt"] // CHUNK_TOKENS * CHUNK_TOKENS for each in first]
        await eventually(lambda: _told_tokens(app) == sum(whole), WITHIN_S)

        for engine in tiered.engines:
            await engine.reset_cache()
            # What an idle engine has to announce goes out with its next step.
            step = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 1}).encode()
            assert (await ask(engine.url, post(step, "/v1/completions"))).status == 200
        await eventually(lambda: not _in_hbm(app), WITHIN_S)
        for replica in app.router.replicas:
            replica.hbm.clear()
        print()
        for number, body in enumerate(bodies):
            again = await client.ask(_next(body), f"another {number}")
            print(
                f"prompt {again['prompt']}: {again['replica']} by {again['source']}, predicted "
                f"{again['predicted_cached_tokens']} {again['predicted_tiers']}, "
                f"cached {again['cached']}"
            )
            assert again["replica"] == first[number]["replica"]
            assert again["source"] == "coordinator"
            assert again["predicted_tiers"]["dram"] >= whole[number] - CHUNK_TOKENS
            assert abs(again["cached"] - again["predicted_cached_tokens"]) <= CHUNK_TOKENS
        page = app.metrics.page().decode()
        assert re.search(r'kvproxy_predicted_tokens_total\{.*tier="dram"\} [1-9]', page)
        await settled(app)


async def test_sizes_come_from_the_servers(tiered: Tiered) -> None:
    async with (
        patient([engine.url for engine in tiered.engines], lmcache=_lmcache(tiered)) as running,
        aiohttp.ClientSession() as session,
    ):
        directory = running.app.sources.lmcache
        assert directory is not None
        assert set(directory.state.instances) == {each.instance_id for each in tiered.servers}
        assert directory.state.chunk_tokens == CHUNK_TOKENS
        client, body = _Client(running, session), _body(5 * CHARACTERS)
        await client.ask(body, "sizes")
        ids = await client.token_ids(body)

        async def stored() -> bool:
            return bool(await _holdings(running.app, ids))

        await eventually(stored, WITHIN_S)
        assert directory.state.chunk_bytes == CHUNK_TOKENS * TOKEN_BYTES
        tokens = directory.dram_tokens(tiered.servers[0].instance_id)
        assert tokens == DRAM_GB * 2**30 / TOKEN_BYTES


async def test_another_salt_is_another_prefix(tiered: Tiered) -> None:
    async with (
        patient([engine.url for engine in tiered.engines], lmcache=_lmcache(tiered)) as running,
        aiohttp.ClientSession() as session,
    ):
        client = _Client(running, session)
        body = _body(7 * CHARACTERS) | {"cache_salt": "tenant-1"}
        await client.ask(body, "salted")
        ids = await client.token_ids(body)
        model, directory = str(default_places().model), running.app.sources.lmcache
        assert directory is not None

        async def held(model: str, salt: str) -> bool:
            found = await directory.lookup(ids, model, salt)
            assert found is not None
            return bool(found.holdings)

        await eventually(lambda: held(model, "tenant-1"), WITHIN_S)
        assert not await held(model, "")
        assert not await held(MODEL, "tenant-1"), "the path names the model"
