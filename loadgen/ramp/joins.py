"""Which conversation a user of a ramp begins with, as far as the budget lets it begin."""

import time
from typing import Protocol

from loadgen.ramp.budget import TRIES, Budget
from loadgen.schedule import TraceQueue
from loadgen.session import Entry
from loadgen.traces.model import Trace

Taken = tuple[Trace, int]


class Joins(Protocol):
    """Takes from a queue of traces for users of a ramp, who are numbered from 0."""

    async def first(self, number: int, gate: Entry) -> Taken | None:
        """For a user who begins; None when it may not, or the run is over."""

    def following(self) -> Taken | None:
        """For one whose conversation has ended."""


class FreeJoins:
    """Whoever is asked for begins."""

    def __init__(self, queue: TraceQueue) -> None:
        self._queue = queue

    async def first(self, number: int, gate: Entry) -> Taken | None:
        return self._queue.take()

    def following(self) -> Taken | None:
        return self._queue.take()


class ClassicJoins:
    """kv-cache-tester's way: of a few conversations the first that fits, or the user is lost. The
    `exempt` first users begin whatever they bring."""

    def __init__(self, queue: TraceQueue, budget: Budget, exempt: int) -> None:
        self._queue = queue
        self._budget = budget
        self._exempt = exempt

    async def first(self, number: int, gate: Entry) -> Taken | None:
        if number >= self._exempt:
            return self.following()
        taken = self._queue.take()
        if taken is not None:
            self._budget.spend(taken[0])
        return taken

    def following(self) -> Taken | None:
        declined: list[Taken] = []
        why = ""
        try:
            for _ in range(TRIES):
                taken = self._queue.take()
                if taken is None:
                    break
                why = self._budget.refusal(taken[0])
                if not why:
                    self._budget.spend(taken[0])
                    return taken
                declined.append(taken)
        finally:
            for one in reversed(declined):
                self._queue.decline(*one)
        self._budget.lose(why)
        return None


class WaitingJoins:
    """Who does not fit begins in a later period; conversations that follow only count."""

    def __init__(self, queue: TraceQueue, budget: Budget, time_scale: float) -> None:
        self._queue = queue
        self._budget = budget
        self._scale = time_scale

    async def first(self, number: int, gate: Entry) -> Taken | None:
        taken = self._queue.take()
        if taken is None:
            return None
        self._budget.joining += 1
        try:
            while self._budget.refusal(taken[0]):
                in_s = self._budget.next_period_in_s() / self._scale
                if not await gate.wait_until(time.monotonic() + in_s):
                    self._queue.give_back(taken[0])
                    return None
        finally:
            self._budget.joining -= 1
        self._budget.spend(taken[0])
        return taken

    def following(self) -> Taken | None:
        taken = self._queue.take()
        if taken is not None:
            self._budget.spend(taken[0])
        return taken


def joins_of(queue: TraceQueue, budget: Budget | None, exempt: int, time_scale: float) -> Joins:
    if budget is None:
        return FreeJoins(queue)
    if budget.rule.waits:
        return WaitingJoins(queue, budget, time_scale)
    return ClassicJoins(queue, budget, exempt)
