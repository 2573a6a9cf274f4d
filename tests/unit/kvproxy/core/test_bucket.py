from math import inf

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.bucket import Bucket


def test_a_minutes_worth_at_once_and_then_at_its_rate() -> None:
    bucket = Bucket(60.0)
    for _ in range(60):
        assert bucket.wait_s(100.0) == 0.0
        bucket.take(1, 100.0)
    assert bucket.wait_s(100.0) == 1.0
    assert bucket.wait_s(100.5) == 0.5
    assert bucket.wait_s(101.0) == 0.0


def test_an_overdraft_is_paid_back_first() -> None:
    bucket = Bucket(600.0)
    bucket.take(1800, 0.0)
    assert bucket.wait_s(0.0) > 120.0
    assert bucket.wait_s(121.0) == 0.0


def test_no_limit_never_waits() -> None:
    bucket = Bucket(inf)
    bucket.take(10**12, 0.0)
    assert bucket.wait_s(0.0) == 0.0


@given(st.floats(1, 1e6), st.lists(st.tuples(st.floats(0, 30), st.floats(0, 100)), max_size=50))
def test_never_more_than_a_minute_ahead_of_its_rate(
    per_min: float, story: list[tuple[float, float]]
) -> None:
    bucket, now, taken = Bucket(per_min), 0.0, 0.0
    for later_s, amount in story:
        now += later_s
        if bucket.wait_s(now) == 0.0:
            bucket.take(amount, now)
            taken += amount
            # The one that overdraws may be as large as it likes.
            assert taken - amount <= per_min * (1 + now / 60) * 1.000001
