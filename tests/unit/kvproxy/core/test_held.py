from math import exp

import pytest

from kvproxy.core.held import HeldTokens


def test_nothing_is_held_before_anything_ran() -> None:
    assert HeldTokens().average(5.0) == 0.0


def test_the_average_follows_what_is_held() -> None:
    held = HeldTokens()
    held.add(1000, 0.0)
    assert held.average(0.0) == 0.0
    assert held.average(300.0) == pytest.approx(1000 * (1 - exp(-1)))
    assert held.average(1e6) == pytest.approx(1000)
    held.add(-1000, 300.0)
    assert held.tokens == 0
    assert held.average(600.0) == pytest.approx(1000 * (1 - exp(-1)) * exp(-1))


def test_the_average_is_that_of_small_steps() -> None:
    held, naive, now, under_way = HeldTokens(), 0.0, 1e6, list[int]()
    for step in range(40_000):
        if step % 7 == 0:
            under_way.append(1 + step % 1000)
            held.add(under_way[-1], now)
        elif step % 7 == 5:
            held.add(-under_way.pop(0), now)
        now += 0.5
        naive = held.tokens + (naive - held.tokens) * exp(-0.5 / 300)
    assert held.average(now) == pytest.approx(naive, rel=1e-6)


def test_what_was_not_begun_cannot_end() -> None:
    with pytest.raises(AssertionError):
        HeldTokens().add(-1, 0.0)
