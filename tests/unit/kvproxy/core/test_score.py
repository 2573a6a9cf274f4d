import pytest

from kvproxy.core.score import Asked, Match, Score, Weights, argmin, score
from tests.support.makers import make_replica

WEIGHTS = Weights(move_margin_s=1.5, crowding=0.1, delay=0.5)


def asked(home: str | None = None, prompt_tokens: int = 5000) -> Asked:
    return Asked(prompt_tokens, home, WEIGHTS, 100.0, worth)


def worth(idle_s: float) -> float:
    """Half of what was idle for ten seconds comes back, nothing of what was longer."""
    return 0.5 if idle_s <= 10.0 else 0.0


def scored(ask: Asked, match: Match = Match.NONE, committed: int = 0, ahead: float = 0) -> Score:
    replica = make_replica("r0", tok_s=1000)
    return score(ask, replica, match, committed_tokens=committed, ahead_s=ahead)


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
    result = score(asked(), replica, Match(0, 0), committed_tokens=0, ahead_s=0.5)
    assert result.queue_s == 2.5


def test_answers_under_way_stand_still_meanwhile() -> None:
    replica = make_replica("r0", tok_s=1000)
    for _ in range(3):
        replica.load.first_token(replica.load.reserve("r0", 0.0, 0.0), 0.0)
    replica.load.reserve("r0", 0.0, 0.0)
    result = score(asked(), replica, Match.NONE, committed_tokens=0, ahead_s=0)
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
    result = score(ask, replica, Match.NONE, committed_tokens=0, ahead_s=0)
    assert result.eviction_s == pytest.approx(expected)


def test_what_is_pinned_cannot_be_pushed_out() -> None:
    replica = make_replica("r0", hbm_tokens=10)
    end, _ = replica.hbm.pin([1])
    replica.hbm.extend(end, [1], [7_000])
    result = score(asked(), replica, Match.NONE, committed_tokens=0, ahead_s=0)
    assert result.eviction_s == 0.0


def test_the_sum_decides_and_the_client_waits_for_a_part() -> None:
    result = Score(1.0, 2.0, 4.0, 8.0, delay_s=16.0, eviction_s=32.0, base_s=64.0)
    assert (result.ttft_s, result.total_s) == (67.0, 127.0)
    assert sum(result.terms().values()) == result.total_s
    assert Score.FREE.total_s == 0.0


def test_ties_within_a_millisecond_are_ties() -> None:
    assert argmin([3.0, 1.0, 1.0005, 1.01]) == [1, 2]
    assert argmin([7.0]) == [0]
