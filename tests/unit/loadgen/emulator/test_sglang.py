"""Pages of the SGLang personality, read as kvproxy reads the real ones."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from kvproxy.core.kv_sources import KvSource, read_sglang
from kvproxy.core.scrape import read_metrics
from loadgen.emulator import EmulatorSettings, Fleet

SETTINGS = EmulatorSettings(engine="sglang", model="m", hbm_tokens=20_000, kv_events=True)


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet(SETTINGS, 1)
    await fleet.start()
    yield fleet
    await fleet.stop()


async def get(url: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.read()


async def test_it_says_where_its_events_are(fleet: Fleet) -> None:
    [listener] = fleet.listeners
    assert listener.publisher is not None
    status, page = await get(listener.url + "/server_info")
    assert status == 200
    port, replay = listener.publisher.port, listener.publisher.replay_port
    assert read_sglang("r", "127.0.0.1", page) == [
        KvSource("r", 0, f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{replay}", "kv@127.0.0.1@m")
    ]
    status, _ = await get(listener.url + "/kv_event_sources")
    assert status == 404


async def test_its_metrics_tell_the_size_of_its_cache(fleet: Fleet) -> None:
    _, page = await get(fleet.urls[0] + "/metrics")
    scrape = read_metrics(page.decode())
    assert (scrape.hbm_tokens, scrape.block_size) == (20_000, 16)
    assert (scrape.running, scrape.waiting) == (0, 0)


def test_there_is_one_tier() -> None:
    with pytest.raises(ValueError, match="one tier"):
        EmulatorSettings(engine="sglang", dram_tokens=1000)
