"""A ramp in virtual time: its controller hears of requests every second and lanes follow it."""

from collections.abc import Callable

from loadgen.ramp.controller import Controller
from loadgen.ramp.slo import Observed
from loadgen.simulate.lanes import Lane
from loadgen.simulate.world import Sample, World

_TICK_S = 1.0


class Ramp:
    """Lanes that its controller does not want pause before their next request. The world stops
    when the controller is done."""

    def __init__(self, controller: Controller, world: World, lane: Callable[[], Lane]) -> None:
        self.controller = controller
        self._world = world
        self._lane = lane
        self._lanes: list[Lane] = []
        self._heard = 0

    def start(self, now: float) -> None:
        self._follow(self.controller.users, now)
        self._world.at(now + _TICK_S, self._tick)

    def _tick(self, now: float) -> None:
        ended = [_observed(sample) for sample in self._world.samples[self._heard :]]
        self._heard = len(self._world.samples)
        waiting = [_observed(sample) for sample in self._world.in_flight()]
        self._follow(self.controller.tick(now, ended, waiting), now)
        if self.controller.done:
            self._world.stop()
        else:
            self._world.at(now + _TICK_S, self._tick)

    def _follow(self, users: int, now: float) -> None:
        while len(self._lanes) < users:
            self._lanes.append(self._lane())
            self._lanes[-1].begin(now)
        for index, lane in enumerate(self._lanes):
            lane.pause(index >= users, now)


def _observed(sample: Sample) -> Observed:
    """Without classes by uncached length: no unlimited cache is kept here."""
    return Observed(
        conversation=sample.conversation,
        due_s=sample.asked_at,
        first_token_s=sample.first_token_at or None,
        end_s=sample.finished_at or None,
        itl_s=sample.itl_s,
    )
