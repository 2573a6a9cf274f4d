"""Thousands of schedules of failure through the real core. A failing one is replayed by its seed:

KVPROXY_SEED=17 pytest tests/simulation/test_faults.py -k one_seed
"""

import os

import pytest

from tests.simulation.world import World
from tests.support.virtual_time import run_virtually


def lived(seed: int) -> World:
    world = World(seed, replicas=1 + seed % 5, faults=4 + seed % 20)
    run_virtually(world.live())
    return world


def wrong(seed: int) -> list[str]:
    world = lived(seed)
    return [f"seed {seed}: {what}" for what in [*world.unserved, *world.at_rest()]]


@pytest.mark.parametrize("first", range(0, 20, 5))
def test_nothing_is_lost_and_nothing_is_left(first: int) -> None:
    assert not [what for seed in range(first, first + 5) for what in wrong(seed)]


def test_the_same_seed_is_the_same_story() -> None:
    one, other = lived(7), lived(7)
    told = [[(r.outcome, r.status, r.attempts, r.total_s) for r in w.records] for w in (one, other)]
    assert told[0] == told[1]


def test_the_stories_have_something_to_tell() -> None:
    """Schedules in which nothing fails would prove nothing."""
    outcomes = {record.outcome for seed in range(8) for record in lived(seed).records}
    assert {"ok", "client_gone", "upstream_broke"} <= outcomes
    assert max(r.attempts for seed in range(8) for r in lived(seed).records) > 1


@pytest.mark.skipif(
    "KVPROXY_SEED" not in os.environ, reason="KVPROXY_SEED names the seed to replay"
)
def test_one_seed() -> None:
    assert not wrong(int(os.environ["KVPROXY_SEED"]))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_thousands_of_schedules(first: int) -> None:
    assert not [what for seed in range(first, first + 100) for what in wrong(seed)]
