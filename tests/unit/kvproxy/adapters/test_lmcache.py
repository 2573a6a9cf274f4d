"""The directory against a coordinator and a controller that answer as LMCache does, or do not."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from kvproxy.adapters.lmcache import LmcacheDirectory, LmcacheLimits
from kvproxy.core.lmcache import Holdings
from kvproxy.core.types import Tier
from tests.support.proxies import eventually

MODEL = "/models/tiny"
NEVER = 3600.0
AGAIN = 0.01


class Fake:
    """Both servers at one address. `held` is the number of leading chunks that node-1 holds."""

    def __init__(self) -> None:
        self.held = 2
        self.chunk_tokens = 256
        self.declared = 268435456
        self.status = 200
        self.lookups: list[dict[str, Any]] = []
        self.controller: list[dict[str, Any]] = []
        self.release = asyncio.Event()
        self.release.set()
        self.url = ""
        self.port = 0

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/lookup":
            self.controller.append(json.loads(await request.read()))
            layout = {"node-1": ["LocalCPUBackend", 256]}
            return web.json_response({"event_id": "e", "layout_info": layout})
        if self.status != 200:
            return web.Response(status=self.status)
        if request.path == "/directory/lookup":
            self.lookups.append(json.loads(await request.read()))
            await self.release.wait()
            asked = self.lookups[-1]
            if "keys" in asked:
                return web.json_response(self._found(len(asked["keys"])))
            return web.json_response(self._found(len(asked["token_ids"]) // self.chunk_tokens))
        pages: dict[str, object] = {
            "/instances": {"instances": [
                {"instance_id": "node-1", "ip": "127.0.0.1", "http_port": self.port}]},
            "/instances/usage": {"instances": [
                {"instance_id": "node-1", "registered": True, "declared_capacity": True,
                 "modules": [{"tier": "l1", "backend": "dram", "shared": False, "used_bytes": 1,
                              "capacity_bytes": self.declared}]}], "shared_modules": []},
            "/config": {"mp": {"chunk_size": self.chunk_tokens}, "storage_manager": {
                "l1_manager_config": {"memory_config": {"size_in_bytes": 268435456}}}},
        }  # fmt: skip
        return web.json_response(pages[request.path])

    def _found(self, chunks: int) -> dict[str, object]:
        placement = {"instance_id": "node-1", "incarnation": 1, "tier": "l1", "backend": "dram",
                     "size_bytes": 131072, "shared": False}  # fmt: skip
        return {
            "chunks": chunks,
            "results": [
                {"key": {"chunk_hash_hex": f"{number:064x}"},
                 "placements": [placement] if number < self.held else []}
                for number in range(chunks)
            ],
        }  # fmt: skip


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    made = Fake()
    runner = web.ServerRunner(web.Server(made.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{made.port}"
    try:
        yield made
    finally:
        made.release.set()
        await runner.cleanup()


@asynccontextmanager
async def directory(
    coordinator: str, controller: str = "", **limits: Any
) -> AsyncIterator[LmcacheDirectory]:
    made = LmcacheDirectory(
        coordinator, controller, LmcacheLimits(**{"interval_s": NEVER} | limits)
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def holdings(asked: LmcacheDirectory, tokens: range, salt: str = "") -> Holdings | None:
    found = await asked.lookup(tokens, MODEL, salt)
    return None if found is None else found.holdings


async def test_who_holds_a_prefix(fake: Fake) -> None:
    async with directory(fake.url, world_size=2) as asked:
        assert await holdings(asked, range(1000), "salt") == {"node-1": {Tier.DRAM: 512}}
    [body] = fake.lookups
    assert body["token_ids"] == list(range(768)), "whole chunks are enough"
    assert (body["model_name"], body["cache_salt"], body["world_size"]) == (MODEL, "salt", 2)


async def test_prompts_below_a_chunk_are_not_asked_about(fake: Fake) -> None:
    async with directory(fake.url) as asked:
        assert await holdings(asked, range(255)) == {}
    assert fake.lookups == []


async def test_the_second_time_a_prompt_is_asked_for_by_its_chunks_names(fake: Fake) -> None:
    async with directory(fake.url) as asked:
        found = await asked.lookup(range(1000), MODEL, "")
        assert found is not None
        assert found.keys is not None
        fake.held = 1
        again = await asked.again(found.keys)
        assert again is not None
        assert again.holdings == {"node-1": {Tier.DRAM: 256}}
        assert again.keys == found.keys
    assert [key["chunk_hash_hex"] for key in fake.lookups[1]["keys"]] == [
        f"{number:064x}" for number in range(3)
    ]


async def test_servers_of_the_settings_that_are_not_registered_are_named_once(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    expected = frozenset({"node-1", "node-2"})
    async with directory(fake.url, expected=expected, interval_s=AGAIN) as asked:
        first = asked.counts.asked
        await holdings(asked, range(300))
        assert asked.counts.asked == first + 1
    said = [r.message for r in caplog.records if "is not registered" in r.message]
    assert len(said) == 1
    assert "node-2" in said[0]
    assert "--coordinator-heartbeat-interval" in said[0]


async def test_chunks_and_sizes_are_the_servers_own(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake.chunk_tokens = 128
    async with directory(fake.url) as asked:
        assert "128 tokens, not 256: set lmcache.chunk_tokens" in caplog.text
        assert asked.dram_tokens("node-1") is None, "the size of a chunk is not known yet"
        assert await holdings(asked, range(300)) == {"node-1": {Tier.DRAM: 256}}
        assert asked.dram_tokens("node-1") == 268435456 // 131072 * 128
        assert asked.dram_tokens("node-2") is None
    async with directory(fake.url, dram_tokens=77) as asked:
        assert asked.dram_tokens("node-1") == 77


async def test_a_size_that_only_the_server_says_stays_known(fake: Fake) -> None:
    fake.declared = 0
    async with directory(fake.url) as asked:
        assert await holdings(asked, range(600)) == {"node-1": {Tier.DRAM: 512}}
        for _ in range(2):
            assert asked.dram_tokens("node-1") == 268435456 // 131072 * 256
            await asked._look()


@pytest.mark.parametrize("broken", ["refused", "status", "nonsense"])
async def test_a_dead_coordinator_answers_nothing_and_says_so_once(
    fake: Fake, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    url = fake.url
    if broken == "refused":
        url = "http://127.0.0.1:1"
    elif broken == "status":
        fake.status = 500
    else:
        fake.answer = _nonsense  # type: ignore[method-assign]
        url = fake.url + "/nonsense"
    async with directory(url) as asked:
        for start in range(3):
            assert await holdings(asked, range(start, start + 300)) is None
        assert asked.counts.failed == 3
        assert not asked.state.up
        assert not asked.heard
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1, [each.message for each in warnings]
    assert "does not answer" in warnings[0].message


async def _nonsense(request: web.BaseRequest) -> web.Response:
    return web.Response(text="[1]")


async def test_the_controller_stands_in_until_the_coordinator_is_back(fake: Fake) -> None:
    fake.status = 503
    async with directory(fake.url, fake.url, interval_s=AGAIN) as asked:
        assert await holdings(asked, range(512)) == {"node-1": {Tier.DRAM: 256}}
        assert fake.controller[0] == {"tokens": list(range(512))}
        fake.status = 200
        await eventually(lambda: asked.state.up)

        async def seen() -> bool:
            return await holdings(asked, range(512)) == {"node-1": {Tier.DRAM: 512}}

        await eventually(seen)


async def test_a_controller_alone(fake: Fake) -> None:
    async with directory("", fake.url) as asked:
        assert await holdings(asked, range(512)) == {"node-1": {Tier.DRAM: 256}}
    assert fake.lookups == []
