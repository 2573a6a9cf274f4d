import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.returns import Returns


def test_the_prior_is_an_even_chance() -> None:
    returns = Returns()
    assert {returns.chance(idle_s) for idle_s in (0.0, 5.0, 1e9)} == {0.5}


def test_who_has_been_away_longer_than_anybody_is_gone() -> None:
    returns = Returns()
    for _ in range(200):
        returns.began()
        for gap_s in (1.0, 5.0, 20.0, 20.0):
            returns.returned(gap_s)
    # Of five pauses one is the end.
    assert returns.chance(0.0) == pytest.approx(0.8, abs=0.02)
    assert returns.chance(20.0) < returns.chance(5.0) < returns.chance(1.0)
    assert returns.chance(10_000.0) < 0.02


def test_habits_are_unlearned() -> None:
    returns = Returns()
    for _ in range(3000):
        returns.returned(1000.0)
    before = returns.chance(500.0)
    for _ in range(10_000):
        returns.began()
        returns.returned(1.0)
    assert before > 0.9
    assert returns.chance(500.0) < 0.01


@given(st.lists(st.none() | st.floats(-10, 1e9), max_size=60))
def test_chances_fall_with_time_and_are_chances(seen: list[float | None]) -> None:
    returns = Returns()
    for gap_s in seen:
        if gap_s is None:
            returns.began()
        else:
            returns.returned(gap_s)
    if seen:
        chances = [returns.chance(0.1 * 2.0**n) for n in range(25)]
        assert all(0.0 <= chance <= 1.0 for chance in chances)
        assert chances == sorted(chances, reverse=True)


def test_a_mark_is_believed_until_its_conversations_say_otherwise() -> None:
    returns = Returns()
    assert returns.chance(1200.0, 3600.0) > 0.8 > returns.chance(1200.0)
    assert returns.chance(4000.0, 3600.0) == returns.chance(4000.0, 300.0) == 0.5
    for _ in range(500):
        returns.began(3600.0)
        returns.began()
        returns.returned(5.0)
    assert returns.chance(1200.0, 3600.0) < 0.05
    assert returns.chance(1200.0, 300.0) == pytest.approx(returns.chance(1200.0), abs=0.01)


def test_conversations_with_short_and_long_marks_are_told_apart() -> None:
    returns = Returns()
    for _ in range(300):
        returns.began(300.0)
        returns.began(3600.0)
        for _ in range(9):
            returns.returned(1000.0, 3600.0)
    assert returns.chance(400.0, 3600.0) > 0.85
    assert returns.chance(400.0, 300.0) < 0.2
