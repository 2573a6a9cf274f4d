from typing import Any

import pytest

from kvproxy.admin.doctor.check_probe import check
from kvproxy.admin.doctor.facts import Fleet, LmcacheFacts, Pass, ProbeFacts
from kvproxy.admin.doctor.finding import Severity
from tests.support.doctor import codes, well


def probed(*cached: int | None, **more: Any) -> ProbeFacts:
    passes = [Pass(600, each, 0.1, **more) for each in cached]
    return ProbeFacts({-1: passes}, token_ids=[1, 2, 3])


@pytest.mark.parametrize(
    ("probe", "code"),
    [
        (probed(0, 0), "identical_prompt_missed"),
        (probed(0, 320), "identical_prompt_partly_missed"),
        (probed(0, 592, lookups_delta=600.0, lmcache_hits_delta=0.0), "lmcache_hash_seed"),
        (probed(0, 592, lmcache_stored_delta=0.0), "lmcache_stores_nothing"),
        (ProbeFacts(refusal="chat answered 500"), "probe_refused"),
    ],
)
def test_what_is_wrong(probe: ProbeFacts, code: str) -> None:
    assert codes(list(check(Fleet([well(probe=probe)])))) == {code}


def test_nothing_is() -> None:
    assert (
        list(check(Fleet([well(probe=probed(0, 592)), well("r1", probe=probed(592, 592))]))) == []
    )
    assert list(check(Fleet([well()]))) == [], "nobody was asked"


def test_without_details_the_counters_tell() -> None:
    silent = codes(list(check(Fleet([well(probe=probed(None, None, hits_delta=592.0))]))))
    assert silent == {"prompt_tokens_details_off"}
    missed = codes(list(check(Fleet([well(probe=probed(None, None, hits_delta=0.0))]))))
    assert missed == {"prompt_tokens_details_off", "identical_prompt_missed"}


def two(**other: Any) -> Fleet:
    replicas = [well(probe=probed(0, 592)), well("r1", probe=probed(0, 592), **other)]
    for name, replica in zip(("aa", "bb"), replicas, strict=True):
        assert replica.probe is not None
        replica.probe.hashes = {0: name}
    return Fleet(replicas)


def test_seeds_that_differ_matter_where_a_tier_is_shared() -> None:
    fleet = two()
    [found] = check(fleet)
    assert (found.code, found.severity) == ("hash_seed", Severity.WARNING)
    assert found.evidence == "r0: block aa; r1: block bb"
    fleet.lmcache = LmcacheFacts("http://c")
    [found] = check(fleet)
    assert found.severity is Severity.ERROR


def test_other_tokens_are_no_other_seed() -> None:
    fleet = two()
    assert fleet.replicas[1].probe is not None
    fleet.replicas[1].probe.token_ids = [1, 2, 4]
    assert codes(list(check(fleet))) == {"tokens_differ"}
    other = two(cache={**well().cache, "prefix_caching_hash_algo": "xxhash"})
    assert list(check(other)) == [], "said by another check"


def test_lmcache_that_has_nothing_of_the_prompt() -> None:
    fleet = Fleet([well(probe=probed(0, 592))], LmcacheFacts("http://c", probe_chunks={}))
    assert codes(list(check(fleet))) == {"lmcache_stores_nothing"}
    fleet.lmcache.probe_chunks = {"node-0": 2}
    assert list(check(fleet)) == []
