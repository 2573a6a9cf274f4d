"""A ramp on real users: a controller hears of requests on a clock, users it does not want pause."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from kvproxy.core.working_set import WorkingSet
from loadgen.ramp.budget import Budget
from loadgen.ramp.certify import CertifyRamp
from loadgen.ramp.classic import ClassicRamp
from loadgen.ramp.controller import Controller
from loadgen.ramp.observe import counts, observed
from loadgen.sample import Sample
from loadgen.session import Entry

# Engine time between two looks of the controller, and the least real time.
TICK_S = 1.0
TICK_REAL_S = 0.05
# kv-cache-tester counts blocks as live for so long after their last use.
LIVE_S = 600.0
CONVERSATIONS_MAX = 1_000_000


class Seats:
    """How many users may ask. A user whose number is not among them waits where it is."""

    def __init__(self) -> None:
        self.users = 0
        self.changed = asyncio.Event()

    def offer(self, users: int) -> None:
        """Sets `changed`, for those who hold it, and puts a new one in its place."""
        self.users = users
        self.changed.set()
        self.changed = asyncio.Event()


class SeatGate:
    """The run's gate as one user sees it, who must also have a seat."""

    def __init__(self, gate: Entry, seats: Seats, number: int) -> None:
        self._gate = gate
        self._seats = seats
        self._number = number

    def enter(self) -> bool:
        return self._gate.enter()

    async def wait_until(self, at: float) -> bool:
        return await self._gate.wait_until(at)

    async def seat(self, due: float) -> float:
        """A pause is the ramp's doing: what was due in it is due at its end."""
        while self._number >= self._seats.users and not self._gate.closed:
            changed = asyncio.ensure_future(self._seats.changed.wait())
            over = asyncio.ensure_future(self._gate.wait_closed())
            try:
                await asyncio.wait([changed, over], return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                over.cancel()
            due = time.monotonic()
        return due

    @property
    def closed(self) -> bool:
        return self._gate.closed

    def close(self, reason: str) -> None:
        self._gate.close(reason)

    async def wait_closed(self) -> None:
        await self._gate.wait_closed()


class Steering:
    """Feeds the controller from a run's samples. `start` is the monotonic time that they count
    from, `clock` the one up to which they are known; `offer` hears how many users there are to
    be. `budget` is what those who begin have to keep to."""

    def __init__(
        self,
        controller: Controller,
        gate: Entry,
        time_scale: float,
        start: float,
        *,
        offer: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
        budget: Budget | None = None,
    ) -> None:
        self._controller = controller
        self._gate = gate
        self._time_scale = time_scale
        self._start = start
        self._offer = offer
        self._clock = clock
        self._budget = budget
        self._offered = 0
        self._heard = 0
        self._live = WorkingSet(CONVERSATIONS_MAX, (LIVE_S,))

    async def steer(self, ended: Sequence[Sample], in_flight: Iterable[Sample]) -> None:
        """Until the controller is done or the run over; both arguments are looked at again on
        every tick."""
        self._follow()
        while not self._controller.done and not self._gate.closed:
            await asyncio.sleep(max(TICK_REAL_S, TICK_S / self._time_scale))
            self._tick(ended, in_flight)

    def _tick(self, ended: Sequence[Sample], in_flight: Iterable[Sample]) -> None:
        now = (self._clock() - self._start) * self._time_scale
        news = [sample for sample in ended[self._heard :] if sample.error != "cancelled"]
        self._heard = len(ended)
        waiting = list(in_flight)
        for sample in [*news, *waiting]:
            self._live.touch(sample.conversation, "", sample.planned_tokens, now)
        if isinstance(self._controller, ClassicRamp):
            self._controller.working_set_tokens = self._live.tokens(LIVE_S, now)
        if self._budget is not None:
            self._account(self._budget, now)
        scale = self._time_scale
        self._controller.tick(
            now,
            [observed(sample, scale, ended=not sample.cut) for sample in news if counts(sample)],
            [observed(sample, scale, ended=False) for sample in waiting if counts(sample)],
        )
        self._follow()

    def _account(self, budget: Budget, now: float) -> None:
        budget.live_tokens = self._live.tokens(LIVE_S, now)
        if isinstance(self._controller, CertifyRamp):
            self._controller.joining = budget.joining
        elif isinstance(self._controller, ClassicRamp) and (lost := budget.take_lost()):
            self._controller.lose(lost, now)
            self._offered -= len(lost)  # their seats are gone

    def _follow(self) -> None:
        users = self._controller.users
        if users != self._offered:
            self._offered = users
            self._offer(users)
