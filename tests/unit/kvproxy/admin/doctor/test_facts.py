from kvproxy.admin.doctor.facts import Fleet, ReplicaFacts
from tests.support.doctor import well


def test_sizes_come_from_the_cache_config() -> None:
    assert (well().block_size, well().hbm_tokens) == (16, 16_000)
    nothing = ReplicaFacts("r", "http://r")
    assert (nothing.block_size, nothing.hbm_tokens) == (None, None)
    odd = well(cache={"block_size": "None", "num_gpu_blocks": "7"})
    assert odd.hbm_tokens is None


def test_what_stands_behind_hbm() -> None:
    assert not well().has_connector
    assert well(counters={"lmcache:num_hit_tokens_total": 0.0}).has_connector
    assert well(counters={"vllm:external_prefix_cache_queries_total": 1.0}).has_connector


def test_who_was_reached() -> None:
    gone = well("r1", trouble="refused")
    assert Fleet([well(), gone]).reached == [well()]
