from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.allowance import Allowance, AllowanceLimits

LIMITS = AllowanceLimits(share=0.5, burst_s=10.0, small_s=1.0)


def test_small_ones_and_idle_replicas_need_none() -> None:
    empty = Allowance(LIMITS, -5.0, 0.0)
    assert empty.permits(1.0, 0.9, 0.0)
    assert empty.permits(60.0, 0.0, 0.0)
    assert not empty.permits(1.1, 0.1, 0.0)


def test_the_more_is_pinned_the_more_must_have_been_saved() -> None:
    half = Allowance(LIMITS, 5.0, 0.0)
    assert half.permits(2.0, 0.33, 0.0)
    assert not half.permits(2.0, 0.34, 0.0)
    full = Allowance(LIMITS, LIMITS.burst_s, 0.0)
    assert full.permits(2.0, 0.5, 0.0)
    assert full.permits(2.0, 1.7, 0.0)


def test_it_grows_by_its_share_up_to_the_burst() -> None:
    allowance = Allowance(LIMITS, 0.0, 0.0)
    allowance.spend(4.0, 2.0)
    assert allowance.left_s == -3.0
    assert not allowance.permits(2.0, 0.01, 8.0)
    assert allowance.permits(2.0, 0.01, 8.3)
    allowance.spend(0.0, 1000.0)
    assert allowance.left_s == 10.0


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 30)), max_size=60))
def test_what_is_spent_keeps_to_the_share(asked: list[tuple[float, float]]) -> None:
    allowance = Allowance(LIMITS, LIMITS.burst_s, 0.0)
    now = spent = 0.0
    for wait_s, prefill_s in asked:
        now += wait_s
        if prefill_s > LIMITS.small_s and allowance.permits(prefill_s, 0.01, now):
            allowance.spend(prefill_s, now)
            spent += prefill_s
    assert spent <= LIMITS.burst_s + now * LIMITS.share + 30.0 + 1e-6
    assert allowance.left_s <= LIMITS.burst_s
