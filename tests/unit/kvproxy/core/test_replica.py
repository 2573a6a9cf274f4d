import pytest

from kvproxy.core.replica import Health
from tests.support.makers import make_chain, make_replica


def test_its_cache_is_sized_in_tokens() -> None:
    replica = make_replica(hbm_tokens=1000)
    assert replica.hbm.capacity == 1000
    replica.fit(2000)
    assert (replica.hbm_tokens, replica.hbm.capacity) == (2000, 2000)


def test_no_models_means_any() -> None:
    assert make_replica().serves("anything")
    assert make_replica(models=("a", "b")).serves("b")
    assert not make_replica(models=("a",)).serves("b")
    assert make_replica(models=("a",)).serves("")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Health.STARTING, Health.READY),
        (Health.DOWN, Health.READY),
        (Health.READY, Health.READY),
        (Health.DRAINING, Health.DRAINING),
    ],
)
def test_a_good_probe(before: Health, after: Health) -> None:
    replica = make_replica(health=before)
    replica.probe_failures = 2
    replica.probe_succeeded()
    assert (replica.health, replica.probe_failures) == (after, 0)


def test_failures_in_a_row_take_it_out_with_its_cache() -> None:
    replica = make_replica()
    chain = make_chain("x" * 640)
    end, _ = replica.hbm.pin(chain.hashes)
    replica.hbm.release(replica.hbm.extend(end, chain.hashes, chain.text_bytes))
    assert not replica.probe_failed(3)
    assert not replica.probe_failed(3)
    replica.probe_succeeded()
    assert [replica.probe_failed(3) for _ in range(4)] == [False, False, True, False]
    assert replica.health is Health.DOWN
    assert replica.hbm.match(chain.hashes) == 0


@pytest.mark.parametrize("health", [Health.STARTING, Health.DOWN, Health.DRAINING])
def test_only_what_was_ready_goes_down(health: Health) -> None:
    replica = make_replica(health=health)
    assert not any(replica.probe_failed(1) for _ in range(3))
    assert replica.health is health
