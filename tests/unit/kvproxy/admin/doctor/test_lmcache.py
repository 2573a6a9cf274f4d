from types import SimpleNamespace
from typing import cast

import aiohttp
import pytest

from kvproxy.admin.doctor import lmcache
from kvproxy.admin.doctor.asking import Asker
from kvproxy.admin.doctor.facts import LmcacheFacts, ServerFacts
from kvproxy.core.lmcache import Lookup
from kvproxy.core.types import Tier
from loadgen.emulator import EmulatorSettings, Fleet

TIERED = EmulatorSettings(lmcache=True, dram_tokens=256_000)


async def test_a_coordinator_and_its_servers() -> None:
    fleet = Fleet(TIERED, 2)
    await fleet.start()
    try:
        assert fleet.coordinator is not None
        async with aiohttp.ClientSession() as session:
            asker, url = Asker(session, {}), fleet.coordinator.url
            facts = await lmcache.look(asker, url, ["http://127.0.0.1:1"])
            assert [each.name for each in facts.servers] == ["node-0", "node-1", "127.0.0.1:1"]
            assert (facts.servers[0].chunk_tokens, facts.servers[0].trouble) == (256, "")
            assert facts.servers[2].trouble
            await lmcache.find_probe(asker, facts, list(range(512)), ["emu"], 1)
            assert facts.probe_chunks == {}
    finally:
        await fleet.stop()


class _Directory:
    """Says of every question what was asked."""

    async def post(self, url: str, path: str, body: bytes) -> SimpleNamespace:
        return SimpleNamespace(body=body)


@pytest.mark.parametrize("models", [["/models/m", "served"], ["served", "/models/m"]])
async def test_a_model_is_known_by_one_of_its_names(
    models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(body: bytes, chunk: int) -> Lookup:
        held = {"node-0": {Tier.DRAM: 2 * chunk}} if b"/models/m" in body else {}
        return Lookup(held, 1024, None)

    monkeypatch.setattr(lmcache.wire, "read_lookup", read)
    facts = LmcacheFacts("http://coordinator")
    asker = cast(Asker, _Directory())
    await lmcache.find_probe(asker, facts, list(range(512)), models, 1)
    assert facts.probe_chunks == {"node-0": 2}


async def test_nobody_there() -> None:
    async with aiohttp.ClientSession() as session:
        facts = await lmcache.look(Asker(session, {}), "http://127.0.0.1:1", [])
    assert "127.0.0.1:1" in facts.trouble


@pytest.mark.parametrize(
    "page",
    [
        {"chunk_size": 128, "save_decode_cache": True, "max_local_cpu_size": 2.0},
        {"mp": {"chunk_size": 128}, "x": {"save_decode_cache": True, "size_in_bytes": 2**31}},
    ],
)
def test_either_page_of_settings(page: object) -> None:
    facts = ServerFacts("s", "http://s")
    lmcache._settings(facts, page)
    assert (facts.chunk_tokens, facts.save_decode, facts.dram_bytes) == (128, True, 2**31)
