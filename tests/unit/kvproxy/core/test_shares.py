from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.shares import Shares


def given_out(shares: Shares, rounds: list[tuple[list[str], float]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for tenants, seconds in rounds:
        chosen = shares.first(tenants)
        shares.charge(chosen, seconds)
        total[chosen] += seconds  # type: ignore[assignment]
    return total


def test_equals_take_turns() -> None:
    assert given_out(Shares(), [(["a", "b"], 1.0)] * 10) == {"a": 5, "b": 5}


def test_weights_are_proportions() -> None:
    assert given_out(Shares({"a": 3.0}), [(["a", "b"], 1.0)] * 40) == {"a": 30, "b": 10}


def test_a_large_request_is_paid_back() -> None:
    shares = Shares()
    shares.charge("a", 10.0)
    assert [shares.first(["a", "b"])] == ["b"]
    shares.charge("b", 9.0)
    assert shares.first(["a", "b"]) == "b"


def test_idling_earns_nothing() -> None:
    shares = Shares()
    for _ in range(100):
        shares.charge("a", 1.0)
    assert given_out(shares, [(["a", "b"], 1.0)] * 10)["b"] <= 6


def test_tenants_are_bounded() -> None:
    shares = Shares()
    for index in range(10_000):
        shares.charge(f"t{index}", 1.0)
    assert len(shares._clocks) <= 4096


@given(st.lists(st.floats(0.01, 9.0), min_size=1, max_size=200))
def test_who_always_waits_is_never_further_behind_than_the_largest(costs: list[float]) -> None:
    total = given_out(Shares(), [(["a", "b"], cost) for cost in costs])
    assert abs(total["a"] - total["b"]) <= max(costs) + 1e-6
