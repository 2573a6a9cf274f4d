import pytest

from kvproxy.admin.doctor.check_lmcache import check
from kvproxy.admin.doctor.facts import Fleet, LmcacheFacts, ServerFacts
from kvproxy.core.lmcache import Instance
from tests.support.doctor import codes, well

HERE = "http://coordinator"
ONE = Instance("node-0", "h", 1)


def fleet(*servers: ServerFacts, **facts: object) -> Fleet:
    return Fleet([well()], LmcacheFacts(servers=list(servers), **facts))  # type: ignore[arg-type]


def server(name: str = "node-0", **more: object) -> ServerFacts:
    return ServerFacts(name, "http://h", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (fleet(coordinator_url=HERE, trouble="refused"), "lmcache_unreachable"),
        (fleet(coordinator_url=HERE), "lmcache_heartbeat"),
        (fleet(server(trouble="refused")), "lmcache_server_unreachable"),
        (fleet(server(save_decode=True)), "save_decode_cache"),
        (fleet(server(chunk_tokens=100)), "chunk_not_whole_blocks"),
        (fleet(server(chunk_tokens=256), server("b", chunk_tokens=128)), "chunk_size_differs"),
    ],
)
def test_what_is_wrong(seen: Fleet, code: str) -> None:
    assert codes(list(check(seen))) == {code}


def test_nothing_is() -> None:
    good = server(chunk_tokens=256, save_decode=False, dram_bytes=10**9)
    assert list(check(fleet(good, coordinator_url=HERE, instances=[ONE]))) == []
    assert list(check(fleet())) == []


def test_dram_is_compared_in_tokens() -> None:
    seen = fleet(server(dram_bytes=15_000 * 512), chunk_tokens=256, chunk_bytes=256 * 512)
    [found] = check(seen)
    assert found.code == "dram_smaller_than_hbm"
    assert found.evidence == "DRAM 15,000 tokens, HBM 16,000 tokens"
    seen.token_bytes = 100.0  # what the model's config says goes first
    assert list(check(seen)) == []


def test_a_tier_that_never_had_anything() -> None:
    asked = {"vllm:external_prefix_cache_queries_total": 60_000.0}
    [found] = check(Fleet([well(counters=asked)]))
    assert found.code == "lmcache_idle"
    had = asked | {"vllm:external_prefix_cache_hits_total": 1.0}
    assert list(check(Fleet([well(counters=had)]))) == []
