import aiohttp
import pytest

from kvproxy.admin.doctor.asking import Asker
from kvproxy.admin.doctor.facts import ReplicaFacts
from kvproxy.admin.doctor.look import look, token_ids
from loadgen.emulator import EmulatorSettings, emulated
from loadgen.emulator.planted import Planted
from tests.support.doctor import planted


async def looked_at(settings: EmulatorSettings, keepalive_s: float = 0.01) -> ReplicaFacts:
    async with emulated(settings) as [url], aiohttp.ClientSession() as session:
        return await look(Asker(session, {}), url, "r0", keepalive_s, 0.01)


async def test_a_replica_is_read() -> None:
    facts = await looked_at(planted())
    assert (facts.trouble, facts.engine, facts.version) == ("", "vllm", (0, 32, 0))
    assert (facts.models, facts.root, facts.hbm_tokens) == (("emu",), "emu", 1_000_000)
    assert len(facts.events.sources) == 1
    assert not facts.events.deaf
    assert not facts.events.silent_replays
    assert facts.prompt.steady
    assert facts.prompt.text
    assert facts.idle_closed_s is None


async def test_how_long_idle_connections_live() -> None:
    facts = await looked_at(planted(Planted.SHORT_KEEPALIVE), 1.5)
    assert facts.idle_closed_s == pytest.approx(0.5, abs=0.4)


async def test_nobody_there() -> None:
    async with aiohttp.ClientSession() as session:
        facts = await look(Asker(session, {}), "http://127.0.0.1:1", "r0", 0.01, 0.01)
        assert "127.0.0.1:1" in facts.trouble
        assert await token_ids(Asker(session, {}), "http://127.0.0.1:1", "m", []) is None


async def test_pages_that_are_something_else() -> None:
    async with emulated(EmulatorSettings()) as [url], aiohttp.ClientSession() as session:
        facts = await look(Asker(session, {}), f"{url}/emulator", "r0", 0.01, 0.01)
    assert "/v1/models answered 404" in facts.trouble
