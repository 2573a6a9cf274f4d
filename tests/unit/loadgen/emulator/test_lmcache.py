"""The emulated coordinator, asked as kvproxy asks the real one."""

from array import array
from collections.abc import AsyncIterator

import aiohttp
import pytest

from kvproxy.core.lmcache import (
    controller_body,
    keys_body,
    lookup_body,
    read_config,
    read_controller,
    read_dram_bytes,
    read_instances,
    read_lookup,
)
from kvproxy.core.types import Tier
from loadgen.emulator import EmulatorSettings, Fleet
from loadgen.emulator.lmcache import CHUNK_BYTES

SETTINGS = EmulatorSettings(
    model="m", hbm_tokens=20_000, dram_tokens=10_000, time_scale=100.0, lmcache=True
)


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet(SETTINGS, 2)
    await fleet.start()
    yield fleet
    await fleet.stop()


async def post(url: str, body: bytes | dict[str, object]) -> bytes:
    async with aiohttp.ClientSession() as session:
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with session.post(url, **sent) as response:
            assert response.status == 200, await response.text()
            return await response.read()


async def get(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        return await response.read()


async def test_it_tells_what_each_replica_stores_until_it_is_evicted(fleet: Fleet) -> None:
    assert fleet.coordinator is not None
    ids = list(array("I", range(1000, 2000)))
    await post(fleet.urls[1] + "/v1/completions", {"model": "m", "prompt": ids, "max_tokens": 1})
    url = fleet.coordinator.url
    asked = f"{url}/directory/lookup"
    found = read_lookup(await post(asked, lookup_body(ids, "m", "", 1)), 256)
    assert found.holdings == {"node-1": {Tier.DRAM: 768}}
    assert found.chunk_bytes == CHUNK_BYTES
    assert found.keys is not None
    for salt, model in (("s", "m"), ("", "other")):
        assert not read_lookup(await post(asked, lookup_body(ids, model, salt, 1)), 256).holdings
    told = read_controller(await post(f"{url}/lookup", controller_body(ids)))
    assert told == {"node-1": {Tier.DRAM: 768}}
    for number in range(40):
        other = [number + 5000] * 1000
        body: dict[str, object] = {"model": "m", "prompt": other, "max_tokens": 1}
        await post(fleet.urls[1] + "/v1/completions", body)
    assert read_lookup(await post(asked, keys_body(found.keys)), 256).holdings == {}


async def test_its_servers_and_their_sizes(fleet: Fleet) -> None:
    assert fleet.coordinator is not None
    url = fleet.coordinator.url
    servers = read_instances(await get(f"{url}/instances"))
    assert [server.id for server in servers] == ["node-0", "node-1"]
    sizes = read_dram_bytes(await get(f"{url}/instances/usage"))
    assert sizes == {"node-0": 39 * CHUNK_BYTES, "node-1": 39 * CHUNK_BYTES}
    config = read_config(await get(f"http://{servers[0].host}:{servers[0].http_port}/config"))
    assert (config.chunk_tokens, config.dram_bytes) == (256, 39 * CHUNK_BYTES)


def test_it_needs_a_tier_to_tell_about() -> None:
    with pytest.raises(ValueError, match="dram_tokens"):
        EmulatorSettings(lmcache=True)
