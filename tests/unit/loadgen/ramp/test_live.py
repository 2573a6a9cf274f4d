import asyncio
import time
from collections.abc import Sequence

import pytest

from loadgen.ramp.budget import Budget, BudgetRule
from loadgen.ramp.certify import CertifyRamp, CertifyRule
from loadgen.ramp.classic import ClassicRamp, ClassicRule
from loadgen.ramp.controller import Note
from loadgen.ramp.live import SeatGate, Seats, Steering
from loadgen.ramp.slo import Limit, Observed, Slo
from loadgen.sample import Sample
from loadgen.session import Gate


async def test_users_beyond_the_seats_pause_and_are_due_when_they_may_go_on() -> None:
    seats, gate = Seats(), Gate()
    seats.offer(1)
    assert await SeatGate(gate, seats, 0).seat(5.0) == 5.0
    paused = asyncio.create_task(SeatGate(gate, seats, 1).seat(5.0))
    seats.offer(1)
    await asyncio.sleep(0)
    assert not paused.done()
    before = time.monotonic()
    seats.offer(2)
    assert await paused >= before


async def test_the_end_of_the_run_ends_a_pause() -> None:
    seats, gate = Seats(), Gate()
    user = SeatGate(gate, seats, 0)
    paused = asyncio.create_task(user.seat(5.0))
    await asyncio.sleep(0)
    gate.close("over")
    await paused
    assert user.closed
    assert not user.enter()
    assert not await user.wait_until(0.0)
    await user.wait_closed()


class Script:
    """A controller that follows a script and remembers what it was told."""

    def __init__(self, users: list[int]) -> None:
        self.users, self.done = users[0], False
        self.notes: list[Note] = []
        self.heard: list[tuple[list[Observed], list[Observed]]] = []
        self._following = users[1:]

    def tick(self, now: float, ended: Sequence[Observed], waiting: Sequence[Observed]) -> int:
        self.heard.append((list(ended), list(waiting)))
        self.users = self._following.pop(0)
        self.done = not self._following
        return self.users

    def result(self) -> dict[str, object]:
        return {}


async def test_users_are_offered_once_and_every_sample_is_heard_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loadgen.ramp.live.TICK_REAL_S", 0.0)
    samples = [Sample("a", "t", 0, t_end=1.0), Sample("b", "t", 0, error="cancelled")]
    flying = [Sample("c", "t", 0)]
    told: list[int] = []
    script = Script([2, 1, 3, 3])
    steering = Steering(script, Gate(), 1e6, time.monotonic(), offer=told.append)
    await steering.steer(samples, flying)
    assert told == [2, 1, 3]
    assert [len(ended) for ended, _ in script.heard] == [1, 0, 0]
    assert [len(waiting) for _, waiting in script.heard] == [1, 1, 1]


async def test_users_who_did_not_fit_leave_the_ramp_and_can_be_added_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loadgen.ramp.live.TICK_REAL_S", 0.0)
    ramp, gate, told = ClassicRamp(ClassicRule(10.0, 50, users_first=3)), Gate(), list[int]()
    budget = Budget(BudgetRule(100), lambda: 0.0)
    now = iter([1.0, 31.0])

    def clock() -> float:
        """Two users are lost in the first period, and seven are added at its end."""
        at = next(now)
        if at == 31.0:
            budget.lose("too much")
            budget.lose("too much")
        return at

    def offer(users: int) -> None:
        told.append(users)
        if len(told) == 2:
            gate.close("over")

    ended = [Sample("a", "t", 0, planned_tokens=640, t_first_token=1.0, t_end=2.0)]
    steering = Steering(ramp, gate, 1.0, 0.0, offer=offer, clock=clock, budget=budget)
    monkeypatch.setattr("loadgen.ramp.live.TICK_S", 0.0)
    await steering.steer(ended, [])
    assert told == [3, 3 - 2 + 7]
    assert ramp.notes[1].why == "2 did not fit: too much"
    assert budget.live_tokens == 640


async def test_a_certified_level_hears_who_has_not_begun() -> None:
    rule = CertifyRule(Slo((Limit("ttft_s", 1.0),)), 4)
    ramp, budget = CertifyRamp(rule), Budget(BudgetRule(100, waits=True), lambda: 0.0)
    steering = Steering(ramp, Gate(), 1.0, 0.0, offer=lambda _: None, budget=budget)
    budget.joining = 2
    steering._tick([], [])
    assert ramp.joining == 2


async def test_the_end_of_the_run_is_the_end_of_the_ramp() -> None:
    gate, script = Gate(), Script([1, 1, 1])
    gate.close("duration over")
    steering = Steering(script, gate, 1.0, 0.0, offer=lambda _: None)
    await steering.steer([], [])
    assert not script.done


async def test_who_gave_up_after_the_limit_counts_as_a_miss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loadgen.ramp.live.TICK_REAL_S", 0.0)
    slo = Slo((Limit("ttft_s", 2.0),))
    ramp = CertifyRamp(CertifyRule(slo, 1, samples_min=1, settle_s=0.0, window_s=0.0, hold_s=0.0))
    gate = Gate()
    start = time.monotonic() - 10.0
    samples: list[Sample] = []
    steering = Steering(ramp, gate, 1.0, start, offer=lambda _: None)
    steering._tick(samples, ())  # the level has settled
    now = time.monotonic() - start
    samples += [
        Sample("soon", "t", 0, t_intended=now, t_end=now + 1.0, error="aborted"),
        Sample("late", "t", 0, t_intended=now, t_end=now + 3.0, error="aborted"),
        Sample("slow", "t", 0, t_intended=now, t_first_token=now + 9, t_end=now + 9, fault="slow"),
    ]
    steering._tick(samples, ())
    assert [(level.good, level.count) for level in ramp.levels] == [(0, 1)]
