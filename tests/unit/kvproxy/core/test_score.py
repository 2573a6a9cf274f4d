import sys
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kvproxy.core.replica import Replica
from kvproxy.core.score import Asked, Match, Score, Weights, argmin, cheapest, score
from tests.support.makers import make_replica

WEIGHTS = Weights(move_margin_s=1.5, crowding=0.1, delay=0.5)


class Waiting(NamedTuple):
    ahead_s: Callable[[float], float]


def asked(home: str | None = None, prompt_tokens: int = 5000) -> Asked:
    return Asked(prompt_tokens, home, WEIGHTS, 100.0, worth)


def worth(idle_s: float, retention_s: float) -> float:
    """Half of what was idle for ten seconds comes back, nothing of what was longer."""
    return 0.5 if idle_s <= 10.0 else 0.0


def scored(ask: Asked, match: Match = Match.NONE, committed: int = 0, ahead: float = 0) -> Score:
    replica = make_replica("r0", tok_s=1000)
    ask = replace(ask, committed={"r0": committed}, lines={"r0": Waiting(lambda prefill_s: ahead)})
    return score(ask, replica, match)


def test_prefill_is_what_is_missed() -> None:
    assert scored(asked()).prefill_s == pytest.approx(5.0)
    assert scored(asked(), Match(9, 4000)).prefill_s == pytest.approx(1.0)


def test_something_is_always_computed() -> None:
    assert scored(asked(), Match(9, 6000)).prefill_s == pytest.approx(0.001)


def test_slower_tiers_are_loaded_if_that_is_faster_than_computing() -> None:
    match = Match(9, 4000, dram=2000, disk=1000)
    slow = Weights(dram_tok_s=2000, disk_tok_s=500)
    ask = Asked(5000, None, slow, 100.0, worth)
    assert scored(ask, match).load_s == pytest.approx(1.0)
    assert scored(ask, match).prefill_s == pytest.approx(2.0)
    fast = Asked(5000, None, Weights(dram_tok_s=2000, disk_tok_s=2000), 100.0, worth)
    assert scored(fast, match).load_s == pytest.approx(1.5)
    assert scored(fast, match).prefill_s == pytest.approx(1.0)
    assert scored(fast, match).ttft_s == pytest.approx(2.5)


def test_moving_costs_a_margin_and_staying_nothing() -> None:
    assert scored(asked("elsewhere")).move_s == 1.5
    assert scored(asked("r0")).move_s == 0.0
    assert scored(asked()).move_s == 0.0


def test_only_new_conversations_crowd() -> None:
    assert scored(asked(), committed=20_000).crowding_s == pytest.approx(2.0)
    assert scored(asked("r0"), committed=20_000).crowding_s == 0.0
    assert scored(asked("elsewhere"), committed=20_000).crowding_s == 0.0


def test_queue_is_what_is_reserved_and_what_waits_ahead() -> None:
    replica = make_replica("r0")
    replica.load.reserve("r0", 2.0, 100.0)
    ask = replace(asked(), lines={"r0": Waiting(lambda prefill_s: prefill_s)})
    result = score(ask, replica, Match(0, 0))
    assert result.queue_s == 2.5  # of which the half second is for who waits ahead


def test_answers_under_way_stand_still_meanwhile() -> None:
    replica = make_replica("r0", tok_s=1000)
    for _ in range(3):
        replica.load.first_token(replica.load.reserve("r0", 0.0, 0.0), 0.0)
    replica.load.reserve("r0", 0.0, 0.0)
    result = score(asked(), replica, Match.NONE)
    # Five seconds for each of the three that decode, of which half counts.
    assert result.delay_s == pytest.approx(7.5)
    assert scored(asked()).delay_s == 0.0


@pytest.mark.parametrize(
    ("used_at", "prompt_tokens", "expected"),
    [
        (95.0, 5000, 0.5 * 2.0),  # 7000 of 10,000 tokens are held: 2000 must go
        (95.0, 3000, 0.0),  # all fits
        (80.0, 5000, 0.0),  # nobody will ask for that again
        (95.0, 50_000, 0.5 * 47.0),
    ],
)
def test_what_is_pushed_out_is_paid_for(
    used_at: float, prompt_tokens: int, expected: float
) -> None:
    replica = make_replica("r0", tok_s=1000, hbm_tokens=10_000)
    end, _ = replica.hbm.pin([1])
    replica.hbm.release(replica.hbm.extend(end, [1], [7_000]), used_at)
    ask = asked(prompt_tokens=prompt_tokens)
    result = score(ask, replica, Match.NONE)
    assert result.eviction_s == pytest.approx(expected)


def test_what_is_pinned_cannot_be_pushed_out() -> None:
    replica = make_replica("r0", hbm_tokens=10)
    end, _ = replica.hbm.pin([1])
    replica.hbm.extend(end, [1], [7_000])
    result = score(asked(), replica, Match.NONE)
    assert result.eviction_s == 0.0


def test_the_sum_decides_and_the_client_waits_for_a_part() -> None:
    result = Score(1.0, 2.0, 4.0, 8.0, delay_s=16.0, eviction_s=32.0, base_s=64.0)
    assert (result.ttft_s, result.total_s) == (67.0, 127.0)
    assert sum(result.terms().values()) == result.total_s
    assert Score.FREE.total_s == 0.0


def test_ties_within_a_millisecond_are_ties() -> None:
    assert argmin([3.0, 1.0, 1.0005, 1.01]) == [1, 2]
    assert argmin([7.0]) == [0]


def busy(random: Random, name: str) -> Replica:
    """A replica somewhere between idle and full, with a cache, a queue and answers under way."""
    made = make_replica(name, tok_s=random.choice([500, 1000]), hbm_tokens=10_000)
    end, _ = made.hbm.pin([1])
    made.hbm.release(made.hbm.extend(end, [1], [random.choice([100, 9_000])]), 95.0)
    for _ in range(random.randrange(4)):
        hold = made.load.reserve(name, random.random(), 99.0)
        if random.random() < 0.5:
            made.load.first_token(hold, 99.5)
    made.load.foreign_waiting = random.randrange(2)
    made.load.decline(random.choice([0.0, 90.0, 101.0, 130.0]))
    return made


@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_the_cheapest_are_those_of_the_smallest_sums(random: Random, replicas: int) -> None:
    fleet = [busy(random, f"r{index}") for index in range(replicas)]
    tokens = [0, 4000, 4990]
    matches = [
        Match(9, held, dram=random.choice([0, held // 2])) for held in random.choices(tokens, k=8)
    ][:replicas]
    ask = replace(
        asked(random.choice([None, "r0", f"r{replicas - 1}"])),
        committed={replica.id: random.choice([0, 50_000]) for replica in fleet},
        lines={f"r{n}": Waiting(lambda prefill_s: 0.5 if prefill_s > 1 else 0.0) for n in (0, 3)},
    )
    sums = [score(ask, *pair).total_s for pair in zip(fleet, matches, strict=True)]
    assert cheapest(ask, fleet, matches) == argmin(sums)


def calls_of(ask: Asked, fleet: list[Replica], matches: list[Match]) -> int:
    """Calls of functions, in Python or in C: a measure of work that no machine changes."""
    count = 0

    def called(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        cheapest(ask, fleet, matches)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(("home", "calls_a_replica"), [("r5", 4), (None, 12)])
def test_a_decision_makes_few_calls_a_replica(home: str | None, calls_a_replica: int) -> None:
    fleet = [busy(Random(index), f"r{index}") for index in range(128)]
    matches = [Match(9, 4990 if replica.id == "r5" else 100) for replica in fleet]
    assert calls_of(asked(home), fleet, matches) <= calls_a_replica * len(fleet)
