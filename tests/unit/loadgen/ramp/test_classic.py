"""Scripted series of TTFTs, gate by gate."""

from dataclasses import replace

import pytest

from loadgen.ramp.classic import ClassicGate, ClassicRamp, ClassicRule, Period
from loadgen.ramp.slo import Observed

RULE = ClassicRule(ttft_max_s=10.0, users_max=50)
MANUAL = replace(RULE, cooldown=True)


def series(rule: ClassicRule, ttfts: list[list[float]], **state: object) -> list[int]:
    """Users added after each period of a scripted run, which has one user all along."""
    gate, added = ClassicGate(rule), []
    for index in range(len(ttfts)):
        window = ttfts[max(0, index + 1 - rule.window_periods) : index + 1]
        added.append(gate.assess(Period(window, 1, **state))[0])  # type: ignore[arg-type]
    return added


@pytest.mark.parametrize(
    ("ttft_s", "more"),
    [
        *((0.0, 7), (0.99, 7), (1.0, 7), (1.1, 6), (2.5, 6), (2.6, 5), (4.0, 5), (4.1, 4)),
        *((5.5, 4), (5.6, 3), (7.0, 3), (7.1, 2), (8.0, 2), (8.1, 0), (9.9, 0), (10.0, 0)),
    ],
)
def test_headroom_says_how_many(ttft_s: float, more: int) -> None:
    assert series(RULE, [[ttft_s]]) == [more]


def test_gates_decide_in_order() -> None:
    gate = ClassicGate(replace(RULE, working_set_tokens_max=100))

    def why(ttfts: list[float], throttled: bool = False, tokens: int = 0) -> str:
        more, reason = gate.assess(Period([ttfts], 1, 0, throttled, tokens))
        assert more == 0
        return reason

    assert why([], throttled=True, tokens=91) == "a user is rate-limited"
    assert why([], tokens=91) == "no first token in the window"
    assert why([10.0], tokens=91) == "ttft 10 s is over the limit"
    assert why([9.0], tokens=91) == "working set of 91 tokens"
    assert why([9.0], tokens=90) == "headroom of 10 %"
    assert gate.assess(Period([[1.0]], 1, working_set_tokens=90))[0] == 7


def test_the_mean_of_the_last_three_periods_counts_and_empty_ones_do_not() -> None:
    assert series(RULE, [[12.0], [0.0], [0.0], [0.0]]) == [0, 3, 5, 7]
    assert series(RULE, [[12.0], [], [], []]) == [0, 0, 0, 0]
    assert series(RULE, [[3.0], [], [], []]) == [5, 5, 5, 0]


@pytest.mark.parametrize(("value", "more"), [("avg", 6), ("p95", 2), ("max", 0)])
def test_what_is_taken_of_a_period(value: str, more: int) -> None:
    rule = replace(RULE, value=value)  # type: ignore[arg-type]
    assert series(rule, [[1.0] * 18 + [7.5, 11.0]]) == [more]


def test_users_are_never_more_than_allowed() -> None:
    gate = ClassicGate(RULE)
    assert gate.assess(Period([[0.0]], 48))[0] == 2
    assert gate.assess(Period([[0.0]], 50))[0] == 0
    assert gate.assess(Period([[0.0]], 55))[0] == 0


@pytest.mark.parametrize(("bad", "wait"), [(1, 2), (2, 2), (3, 3), (9, 3), (10, 5), (14, 5)])
def test_the_manual_cools_down_after_bad_periods(bad: int, wait: int) -> None:
    rule = replace(MANUAL, window_periods=1)
    added = series(rule, [[11.0]] * bad + [[1.0]] * (wait + 4))
    assert added == [0] * (bad + wait) + [1, 1, 7, 7]
    assert series(replace(rule, cooldown=False), [[11.0]] * bad + [[1.0]]) == [0] * bad + [7]


def test_an_empty_period_is_a_bad_one_for_the_manual() -> None:
    rule = replace(MANUAL, window_periods=1)
    assert series(rule, [[1.0], [], [1.0], [1.0], [1.0]]) == [7, 0, 0, 0, 1]


def test_a_bad_period_while_cooling_starts_over() -> None:
    rule = replace(MANUAL, window_periods=1)
    assert series(rule, [[11.0], [1.0], [11.0], [1.0], [1.0], [1.0]]) == [0, 0, 0, 0, 0, 1]


def test_the_manual_wants_few_requests_in_flight() -> None:
    assert series(MANUAL, [[1.0]], in_flight=37) == [7]
    assert series(MANUAL, [[1.0]], in_flight=38) == [0]
    assert series(RULE, [[1.0]], in_flight=50) == [7]


def done(first_token_s: float, ttft_s: float, failed: bool = False) -> Observed:
    return Observed("c", first_token_s - ttft_s, first_token_s, first_token_s + 1, failed=failed)


def test_first_tokens_count_in_the_period_they_fell_in() -> None:
    ramp = ClassicRamp(replace(RULE, window_periods=1))
    assert ramp.tick(29.0, [done(20.0, 4.0), done(21.0, 100.0, failed=True)], []) == 1
    # Heard of late, and in one tick: one of the period before, one of the period now begun.
    assert ramp.tick(30.5, [done(29.9, 6.0), done(30.2, 9.5)], []) == 1 + 4
    assert ramp.tick(60.0, [], []) == 5
    assert [note.why for note in ramp.notes][2] == "headroom of 5 %"


def test_users_who_did_not_fit_are_gone_until_they_are_added_again() -> None:
    ramp = ClassicRamp(replace(RULE, users_first=5))
    ramp.lose(["too much", "too much", "no room"], 12.0)
    assert (ramp.notes[-1].users, ramp.notes[-1].why) == (2, "3 did not fit: no room")
    assert ramp.tick(30.0, [done(1.0, 0.5)], []) == 2 + 7


def test_without_users_and_first_tokens_it_is_over() -> None:
    ramp = ClassicRamp(RULE)
    ramp.tick(29.0, [done(20.0, 12.0)], [])
    ramp.lose(["too much"], 29.0)
    found = []
    for period in range(1, 5):
        ramp.tick(30.0 * period, [], [])
        found.append(ramp.done)
    # As long as the window knows a first token it might add somebody.
    assert found == [False, False, True, True]


def test_a_rate_limited_user_freezes_the_ramp() -> None:
    ramp = ClassicRamp(RULE)
    assert ramp.tick(30.0, [done(1.0, 0.5)], [Observed("c", 3.0, throttled=True)]) == 1
    assert ramp.tick(60.0, [done(31.0, 0.5)], [Observed("c", 31.0)]) == 8
    assert ramp.result() == {"kind": "classic", "users": 8, "users_max": 50}
