"""What LMCache holds outlives the replicas' HBM, and its coordinator tells who holds it."""

import asyncio

import aiohttp
import pytest

from kvproxy.app import App
from kvproxy.core.lmcache import Holdings, readers
from kvproxy.core.types import Tier
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.realstack.dialogue import library_text
from tests.support.realstack.engine import MODEL, Engine
from tests.support.realstack.fleet import Tiered
from tests.support.realstack.lmcache import CHUNK_TOKENS, DRAM_GB
from tests.support.realstack.places import default_places

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

CHARACTERS = 16_000
# Of KV that one token of the tiny model takes: two layers, K and V, one head of 64, two bytes.
TOKEN_BYTES = 512


def _body(start: int) -> dict[str, object]:
    text = library_text()[start : start + CHARACTERS]
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 2,
    }


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

    async def ask(self, body: dict[str, object], session_id: str) -> tuple[str, int, int]:
        """(replica, prompt tokens, cached tokens)"""
        url = f"{self._running.url}/v1/chat/completions"
        headers = {"x-session-id": session_id}
        async with self._session.post(url, json=body, headers=headers) as response:
            answer = await response.json()
            assert response.status == 200, answer
            replica = response.headers["x-kvproxy-replica"]
        usage = answer["usage"]
        return replica, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]

    async def token_ids(self, body: dict[str, object]) -> list[int]:
        url = f"{self._running.url}/v1/chat/completions/render"
        async with self._session.post(url, json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            ids: list[int] = answer["token_ids"]
            return ids


async def _holdings(app: App, token_ids: list[int]) -> Holdings:
    assert app.lmcache is not None
    return await app.lmcache.lookup(token_ids, str(default_places().model), "")


async def test_the_coordinator_names_the_replica_after_a_reset(tiered: Tiered) -> None:
    async with (
        proxied([engine.url for engine in tiered.engines], lmcache=_lmcache(tiered)) as running,
        aiohttp.ClientSession() as session,
    ):
        app, client = running.app, _Client(running, session)
        assert app.lmcache is not None
        bodies = {f"s{number}": _body(number * CHARACTERS) for number in range(4)}
        # All at a time, so that both replicas get some.
        first = await asyncio.gather(*(client.ask(body, name) for name, body in bodies.items()))
        assert len({replica for replica, _, _ in first}) == 2
        assert max(cached for _, _, cached in first) < CHUNK_TOKENS, "nobody had them before"

        for engine in tiered.engines:
            await engine.reset_cache()
        pairs = list(
            zip((s.instance_id for s in tiered.servers), map(_id, tiered.engines), strict=True)
        )
        for (name, body), (replica, prompt, _) in zip(bodies.items(), first, strict=True):
            ids = await client.token_ids(body)
            assert len(ids) == prompt
            whole = len(ids) // CHUNK_TOKENS * CHUNK_TOKENS

            async def told(ids: list[int] = ids, whole: int = whole) -> bool:
                found = await _holdings(app, ids)
                return any(tiers == {Tier.DRAM: whole} for tiers in found.values())

            await eventually(told)
            found = await _holdings(app, ids)
            instance = max(found, key=lambda each: sum(found[each].values()))
            holders = readers(instance, pairs, app.lmcache.state.instances, {})
            assert holders == {replica}
            again, prompt, cached = await client.ask(body, name)
            print(f"\n{name}: prompt {prompt}, in DRAM of {instance} {found[instance]}, "
                  f"asked {again}, cached {cached}")  # fmt: skip
            assert again == replica
            assert whole - CHUNK_TOKENS <= cached <= prompt, "DRAM gave back what HBM had lost"
        await settled(app)


async def test_sizes_come_from_the_servers(tiered: Tiered) -> None:
    async with (
        proxied([engine.url for engine in tiered.engines], lmcache=_lmcache(tiered)) as running,
        aiohttp.ClientSession() as session,
    ):
        directory = running.app.lmcache
        assert directory is not None
        assert set(directory.state.instances) == {each.instance_id for each in tiered.servers}
        assert directory.state.chunk_tokens == CHUNK_TOKENS
        client, body = _Client(running, session), _body(5 * CHARACTERS)
        await client.ask(body, "sizes")
        ids = await client.token_ids(body)

        async def stored() -> bool:
            return bool(await _holdings(running.app, ids))

        await eventually(stored)
        assert directory.state.chunk_bytes == CHUNK_TOKENS * TOKEN_BYTES
        tokens = directory.dram_tokens(tiered.servers[0].instance_id)
        assert tokens == DRAM_GB * 2**30 / TOKEN_BYTES


async def test_another_salt_is_another_prefix(tiered: Tiered) -> None:
    async with (
        proxied([engine.url for engine in tiered.engines], lmcache=_lmcache(tiered)) as running,
        aiohttp.ClientSession() as session,
    ):
        client = _Client(running, session)
        body = _body(7 * CHARACTERS) | {"cache_salt": "tenant-1"}
        await client.ask(body, "salted")
        ids = await client.token_ids(body)
        model, directory = str(default_places().model), running.app.lmcache
        assert directory is not None

        async def stored() -> bool:
            return bool(await directory.lookup(ids, model, "tenant-1"))

        await eventually(stored)
        assert await directory.lookup(ids, model, "") == {}
        assert await directory.lookup(ids, MODEL, "tenant-1") == {}, "the path names the model"
