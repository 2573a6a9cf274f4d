"""Every fault that can be planted is found, by its own name, and a well set-up raises nothing."""

import pytest

from loadgen.emulator import EmulatorSettings
from loadgen.emulator.planted import Planted
from tests.support.doctor import HEALTHY, codes, findings, planted

ALONE = {
    Planted.NO_TOKEN_DETAILS: {"prompt_tokens_details_off"},
    Planted.FORGETS: {"identical_prompt_missed"},
    Planted.EVENTS_CONNECT: {"events_connect"},
    Planted.EVENTS_UNREACHABLE: {"events_unreachable"},
    Planted.EVENTS_NO_REPLAY: {"events_no_replay"},
    Planted.DATED_TEMPLATE: {"template_dates"},
    Planted.CLOCK_SKEW: {"clock_skew"},
    Planted.ASLEEP: {"asleep"},
    Planted.TIER_IDLE: {"lmcache_idle"},
    Planted.LMCACHE_SEED: {"lmcache_hash_seed"},
}
OF_LMCACHE = {
    Planted.LMCACHE_SILENT: {"lmcache_unreachable"},
    Planted.LMCACHE_LOST: {"lmcache_heartbeat"},
    Planted.LMCACHE_CHUNKS: {"chunk_not_whole_blocks"},
    Planted.LMCACHE_SAVE_DECODE: {"save_decode_cache"},
    Planted.LMCACHE_FORGETS: {"lmcache_stores_nothing"},
}
ELSEWHERE = {
    Planted.HASH_SEED,
    Planted.HASH_ALGORITHM,
    Planted.SHORT_KEEPALIVE,
    Planted.TENSOR_PARALLEL,
}
TIERED = {"lmcache": True, "dram_tokens": 4_000_000}


def test_every_fault_has_its_test() -> None:
    assert set(ALONE) | set(OF_LMCACHE) | ELSEWHERE == set(Planted)


@pytest.mark.parametrize("more", [{}, {"engine": "sglang"}], ids=["vllm", "sglang"])
async def test_nothing_is_found_where_nothing_is_wrong(more: dict[str, object]) -> None:
    assert await findings(planted(**more)) == []


async def test_nor_with_lmcache() -> None:
    assert await findings(planted(**TIERED), coordinated=True) == []


@pytest.mark.parametrize("fault", ALONE)
async def test_a_planted_fault(fault: Planted) -> None:
    assert codes(await findings(planted(fault))) == ALONE[fault]


@pytest.mark.parametrize("fault", OF_LMCACHE)
async def test_a_fault_of_lmcache(fault: Planted) -> None:
    assert codes(await findings(planted(fault, **TIERED), coordinated=True)) == OF_LMCACHE[fault]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Planted.HASH_SEED, "hash_seed"),
        (Planted.HASH_ALGORITHM, "prefix_caching_hash_algo_differs"),
    ],
)
async def test_a_replica_unlike_the_other(fault: Planted, code: str) -> None:
    assert codes(await findings(planted(), planted(fault))) == {code}


async def test_block_sizes_that_differ() -> None:
    found = await findings(planted(), planted(block_size=32))
    assert codes(found) == {"block_size_differs"}
    assert "r0: 16; r1: 32" in found[0].evidence


async def test_templates_that_differ() -> None:
    found = await findings(planted(), planted(Planted.DATED_TEMPLATE))
    assert codes(found) == {"tokens_differ", "template_dates"}


async def test_connections_that_close_too_soon() -> None:
    found = await findings(planted(Planted.SHORT_KEEPALIVE), keepalive_s=1.0, probing=False)
    assert codes(found) == {"keep_alive"}


async def test_an_old_engine_with_many_ranks() -> None:
    found = await findings(planted(Planted.TENSOR_PARALLEL), probing=False)
    assert "tensor_parallel" in codes(found)


async def test_prefix_caching_off_and_no_events() -> None:
    bare = EmulatorSettings(prefix_caching=False)
    found = codes(await findings(bare))
    assert found == {"prefix_caching_off", "identical_prompt_missed", "events_off", "kv_dtype"}


async def test_dram_smaller_than_hbm() -> None:
    small = planted(lmcache=True, dram_tokens=100_000)
    assert codes(await findings(small, coordinated=True)) == {"dram_smaller_than_hbm"}


async def test_a_server_that_cuts_otherwise() -> None:
    other = planted(Planted.LMCACHE_CHUNKS, block_size=4, **TIERED)
    found = await findings(planted(**TIERED), other, coordinated=True, servers=1)
    assert "chunk_size_differs" in codes(found)


async def test_a_billing_line_that_reaches_the_model() -> None:
    keeps = EmulatorSettings(**HEALTHY, keeps_billing=True)
    found = (await findings(keeps))[0]
    assert (found.code, found.severity.name) == ("billing_line", "NOTE")
    kept = await findings(keeps, billing_dropped=False)
    assert kept[0].severity.name == "WARNING"
