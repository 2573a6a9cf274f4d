import asyncio

import pytest

from loadgen.ramp.budget import TRIES, Budget, BudgetRule
from loadgen.ramp.joins import joins_of
from loadgen.schedule import TraceQueue
from loadgen.session import Gate
from loadgen.traces.model import Trace
from tests.support.traces import growing

SMALL = [growing(f"s{n}", [160]) for n in range(3)]
LARGE = [growing(f"l{n}", [1600]) for n in range(3)]


def still() -> float:
    return 1.0


async def test_without_a_budget_everybody_begins() -> None:
    joins = joins_of(TraceQueue(LARGE, 1, recycle=False), None, 0, 1.0)
    assert await joins.first(0, Gate()) is not None
    assert [joins.following() is None for _ in range(3)] == [False, False, True]


async def test_the_first_that_fits_of_a_few_begins_and_the_others_stay_unplayed() -> None:
    queue = TraceQueue([*SMALL[:2], *LARGE], 1, recycle=True)
    budget = Budget(BudgetRule(new_tokens_max=320), still)
    joins = joins_of(queue, budget, 0, 1.0)
    begun = [await joins.first(0, Gate()), joins.following()]
    assert {taken[0].id for taken in begun if taken} == {"s0", "s1"}
    assert joins.following() is None
    assert len(budget.take_lost()) == 1
    # What was declined is played as if it had never been looked at.
    budget.rule = BudgetRule()
    left = [joins.following() for _ in LARGE]
    assert sorted((taken[0].id, taken[1]) for taken in left if taken) == [
        ("l0", 0), ("l1", 0), ("l2", 0),
    ]  # fmt: skip


async def test_no_more_than_five_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    large = [growing(f"l{n}", [1600]) for n in range(TRIES + 1)]
    queue = TraceQueue(large, 1, recycle=True)
    budget = Budget(BudgetRule(new_tokens_max=320), still)
    asked: list[str] = []
    refusal = budget.refusal

    def watched(trace: Trace) -> str:
        asked.append(trace.id)
        return refusal(trace)

    monkeypatch.setattr(budget, "refusal", watched)
    assert joins_of(queue, budget, 0, 1.0).following() is None
    assert len(asked) == len(set(asked)) == TRIES
    assert budget.take_lost() == ["1600 new tokens after 0 in this period"]


async def test_the_first_users_are_exempt_but_count() -> None:
    budget = Budget(BudgetRule(new_tokens_max=2000), still)
    joins = joins_of(TraceQueue(LARGE, 1, recycle=True), budget, 2, 1.0)
    begun = [await joins.first(number, Gate()) is not None for number in range(4)]
    assert begun == [True, True, False, False]
    assert len(budget.take_lost()) == 2


async def test_users_who_wait_begin_a_period_each_and_none_is_lost() -> None:
    loop = asyncio.get_running_loop()
    start, scale = loop.time(), 1000.0
    budget = Budget(BudgetRule(2000, 0, 30.0, waits=True), lambda: (loop.time() - start) * scale)
    joins = joins_of(TraceQueue(LARGE, 1, recycle=True), budget, 0, scale)
    begun_s: list[float] = []

    async def begin(number: int) -> None:
        assert await joins.first(number, Gate()) is not None
        begun_s.append((loop.time() - start) * scale)

    users = [asyncio.create_task(begin(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert budget.joining == 3
    await asyncio.gather(*users)
    periods = [int(at // 30) for at in begun_s]
    assert periods == sorted(set(periods)), begun_s
    assert budget.joining == 0
    assert joins.following() is not None, "conversations that follow are free"
    assert budget.take_lost() == []


async def test_the_end_of_the_run_ends_the_wait() -> None:
    gate, queue = Gate(), TraceQueue(LARGE, 1, recycle=True)
    budget = Budget(BudgetRule(1000, waits=True), still)
    joins = joins_of(queue, budget, 0, 1.0)
    assert await joins.first(0, gate) is not None, "more than a period holds has one alone"
    waiting = asyncio.create_task(joins.first(1, gate))
    await asyncio.sleep(0)
    assert (budget.joining, waiting.done()) == (1, False)
    gate.close("over")
    assert await waiting is None
    assert budget.joining == 0
