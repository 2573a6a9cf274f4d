from collections.abc import Callable
from dataclasses import replace

import pytest

from loadgen.ramp.certify import CertifyRamp, CertifyRule
from loadgen.ramp.slo import Limit, Observed, Slo
from loadgen.simulate.run import Setup, simulate
from loadgen.traces.model import Trace
from tests.support.knees import DIRECT, attainment, cache_knee, service_knee, steady

SLO = Slo((Limit("ttft_s", 1.0),))
RULE = CertifyRule(SLO, 20, settle_s=10.0, window_s=50.0, hold_s=100.0, samples_min=20)


def play(ramp: CertifyRamp, good: Callable[[int], bool], until_s: float = 5000.0) -> list[int]:
    """Ten requests a second, all in time where `good` says so of the users; the levels tried."""
    now = 0.0
    while not ramp.done and now < until_s:
        now += 1.0
        wait_s = 0.5 if good(ramp.users) else 1.5
        ended = [Observed(f"c{n}", now - wait_s, now, now) for n in range(10)]
        ramp.tick(now, ended, [])
    return [level.users for level in ramp.levels]


def test_it_climbs_bisects_and_holds() -> None:
    ramp = CertifyRamp(RULE)
    assert play(ramp, lambda users: users <= 9) == [1, 2, 3, 5, 8, 12, 10, 9, 9]
    assert [level.held for level in ramp.levels][-2:] == [False, True]
    found = ramp.result()
    assert (found["users"], found["not_users"], found["attainment"]) == (9, 10, 1.0)
    assert found["held_s"] == pytest.approx(RULE.hold_s, abs=1)


def test_it_descends_from_a_first_number_that_is_too_many() -> None:
    ramp = CertifyRamp(replace(RULE, users_first=16))
    assert play(ramp, lambda users: users <= 3) == [16, 8, 4, 2, 3, 3]


def test_the_most_it_may_try_is_held_too() -> None:
    ramp = CertifyRamp(replace(RULE, users_max=4))
    assert play(ramp, lambda users: True) == [1, 2, 3, 4, 4]
    assert ramp.result()["not_users"] is None
    assert ramp.result()["users"] == 4


def test_not_even_one_user() -> None:
    ramp = CertifyRamp(RULE)
    assert play(ramp, lambda users: False) == [1]
    assert (ramp.done, ramp.result()["users"]) == (True, 0)


def test_an_answer_that_does_not_stand_the_hold_is_taken_back() -> None:
    ramp = CertifyRamp(RULE)
    looks: list[int] = []

    def good(users: int) -> bool:
        # Eight users look well until they have to stand for long.
        looks.append(users)
        return users < 8 or (users == 8 and not ramp.levels[-1:][0].held and looks.count(8) < 30)

    play(ramp, good)
    assert ramp.result()["users"] == 7


def test_one_that_waits_too_long_is_a_miss_before_it_ends() -> None:
    ramp = CertifyRamp(RULE)
    ramp.tick(10.0, [], [])
    waiting = [Observed(f"c{n}", 11.0) for n in range(20)]
    ramp.tick(11.9, [], waiting)
    assert ramp.levels == []
    ramp.tick(12.1, [], waiting)
    assert (ramp.levels[0].verdict, ramp.levels[0].count) == ("bad", 20)


def test_a_level_is_judged_once_all_its_users_have_begun() -> None:
    ramp = CertifyRamp(RULE)
    ramp.joining = 1
    for now in range(200):  # far longer than it may take to settle
        ramp.tick(float(now), [Observed(f"c{n}", now - 2.0, now, now) for n in range(9)], [])
    assert ramp.levels == []
    ramp.joining = 0
    ramp.tick(208.0, [Observed(f"c{n}", 199.0, 208.0, 208.0) for n in range(90)], [])
    assert ramp.levels == [], "it settles from when the last has begun"
    ramp.tick(210.0, [], [])
    ramp.tick(211.0, [Observed(f"c{n}", 210.0, 210.5, 211.0) for n in range(300)], [])
    assert [(level.users, level.verdict, level.count) for level in ramp.levels] == [
        (1, "good", 300)
    ]


def test_failures_are_in_the_denominator() -> None:
    ramp = CertifyRamp(RULE)
    ramp.tick(10.0, [], [])
    ended = [Observed(f"c{n}", 11.0, 11.1, 11.2, failed=n < 10) for n in range(20)]
    ramp.tick(12.0, ended, [])
    assert (ramp.levels[0].verdict, ramp.levels[0].good) == ("bad", 10)


def test_few_requests_decide_nothing() -> None:
    ramp = CertifyRamp(RULE)
    ramp.tick(10.0, [], [])
    late = [Observed(f"c{n}", 11.0, 19.0, 19.0) for n in range(19)]
    ramp.tick(20.0, late, [])
    ramp.tick(2000.0, [], [])
    assert ramp.levels == []
    assert ramp.result()["users"] is None


def test_what_an_earlier_level_left_behind_does_not_count() -> None:
    ramp = CertifyRamp(RULE)
    ramp.tick(10.0, [], [])
    ramp.tick(12.0, [Observed(f"c{n}", 9.9, 12.0, 12.0) for n in range(50)], [])
    assert ramp.levels == []
    ramp.tick(61.0, [Observed(f"c{n}", 60.0, 60.1, 61.0) for n in range(20)], [])
    assert (ramp.levels[0].verdict, ramp.users) == ("good", 2)
    # The next level settles only when the requests of this one have ended, but not for ever.
    ramp.tick(75.0, [], [Observed("old", 60.5)])
    good = [Observed(f"c{n}", 76.0, 76.1, 76.2) for n in range(500)]
    ramp.tick(77.0, good, [Observed("old", 60.5)])
    assert len(ramp.levels) == 1
    ramp.tick(161.0, [], [Observed("old", 60.5)])
    ramp.tick(163.0, [replace(one, due_s=162.0) for one in good], [])
    assert len(ramp.levels) == 2


@pytest.mark.parametrize(
    "fields", [{"users_first": 0}, {"users_first": 21}, {"attainment": 1.0}, {"growth": 1.0}]
)
def test_rules_that_make_no_sense(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be between"):
        replace(RULE, **fields)  # type: ignore[arg-type]


def capacities(traces: list[Trace], setup: Callable[[int, CertifyRule], Setup]) -> list[int]:
    """What twenty seeds find."""
    found = []
    for seed in range(20):
        ramp = simulate(traces, setup(seed, CertifyRule(SLO, 40)), DIRECT).ramp
        assert ramp is not None
        users = ramp.result()["users"]
        assert isinstance(users, int), f"seed {seed} certified nothing"
        found.append(users)
    return found


@pytest.mark.parametrize("knee", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_the_knee_of_a_cache_is_found(knee: int) -> None:
    """Everybody is in time while the cache holds all conversations, nobody with one more."""
    traces = steady(48)
    found = capacities(traces, lambda seed, rule: cache_knee(knee, seed, rule))
    print(f"knee {knee}: {found}")
    assert sum(abs(users - knee) <= 1 for users in found) >= 19


@pytest.mark.slow
def test_a_knee_that_is_no_cliff_is_found() -> None:
    """The truth is what very long runs with fixed numbers of users show."""
    traces, slo = steady(48, tokens=10_048, think_s=15.0), Slo((Limit("ttft_s", 3.0),))
    shares = {n: attainment(traces, service_knee(n, 1), 3.0) for n in range(7, 13)}
    knee = max(users for users, share in shares.items() if share >= 0.95)
    found = capacities(traces, lambda seed, rule: service_knee(knee, seed, replace(rule, slo=slo)))
    print(f"attainment {shares}, knee {knee}: {found}")
    assert sum(abs(users - knee) <= 1 for users in found) >= 19
