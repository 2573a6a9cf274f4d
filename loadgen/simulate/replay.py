"""The arrivals of a decision log on simulated engines, under other policies: an open loop."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from loadgen.simulate.compare import Comparison, contrast
from loadgen.simulate.decision_log import Arrival, Recorded
from loadgen.simulate.run import Arm, Outcome, Setup, world_of
from loadgen.simulate.world import World


def replay(arrivals: Sequence[Arrival], setup: Setup, arm: Arm) -> Outcome:
    """Everybody asks when he asked then, however long answers take now. Deterministic."""
    world = world_of(setup, arm)
    for arrival in arrivals:
        world.at(arrival.at_s, _asking(world, arrival))
    world.run(setup.duration_s if setup.duration_s is not None else inf)
    return Outcome.of(world)


def compare_replayed(
    recorded: Recorded, setup: Setup, names: Sequence[str], tell: Callable[[str], None]
) -> Comparison:
    setup = replace(setup, conversations=recorded.conversations())
    return contrast(lambda on, arm: replay(recorded.arrivals, on, arm), setup, names, tell)


def _asking(world: World, arrival: Arrival) -> Callable[[float], None]:
    def ask(_now: float) -> None:
        world.ask(arrival.identity, arrival.prompt, arrival.output_tokens, lambda _: None)

    return ask
