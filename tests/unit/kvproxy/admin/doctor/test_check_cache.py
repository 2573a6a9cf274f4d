import pytest

from kvproxy.admin.doctor.check_cache import check
from kvproxy.admin.doctor.facts import Fleet
from tests.support.doctor import codes, well


def changed(**labels: str) -> dict[str, str]:
    return {**well().cache, **labels}


@pytest.mark.parametrize(
    ("cache", "code"),
    [
        (changed(enable_prefix_caching="False"), "prefix_caching_off"),
        (changed(cache_dtype="auto"), "kv_dtype"),
        ({}, "cache_size_unknown"),
    ],
)
def test_one_replica(cache: dict[str, str], code: str) -> None:
    assert codes(list(check(Fleet([well(cache=cache)])))) == {code}


def test_a_replica_unlike_the_others() -> None:
    other = well("r1", cache=changed(block_size="32", prefix_caching_hash_algo="xxhash"))
    found = codes(list(check(Fleet([well(), other]))))
    assert found == {"block_size_differs", "prefix_caching_hash_algo_differs"}


def test_another_model_may_be_unlike() -> None:
    other = well("r1", models=("other",), cache=changed(block_size="32"))
    assert list(check(Fleet([well(), other]))) == []


def test_one_that_is_not_there_is_not_compared() -> None:
    gone = well("r1", trouble="refused", cache={})
    assert list(check(Fleet([well(), gone]))) == []
