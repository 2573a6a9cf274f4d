"""Arrivals of a log on simulated engines."""

from array import array

from kvproxy.core.types import Identity
from loadgen.engine_model import EngineLimits
from loadgen.simulate.decision_log import Arrival, Recorded
from loadgen.simulate.prompts import Prompt
from loadgen.simulate.replay import compare_replayed, replay
from loadgen.simulate.run import Arm, Setup

SETUP = Setup(1, 2, limits=EngineLimits(hbm_tokens=200_000, block_size=64))


def arrivals(conversations: int = 4, turns: int = 5) -> list[Arrival]:
    found = []
    for number in range(conversations):
        identity = Identity("t", "m", f"s{number}")
        for turn in range(turns):
            blocks = 100 + 10 * turn
            hashes = array("Q", range(number * 10_000 + 1, number * 10_000 + 1 + blocks))
            prompt = Prompt(hashes, blocks * 64, 0)
            at = turn * 20.0 + number
            found.append(Arrival(at, identity, prompt, 8, "r0", 200_000, 0, 0, 1.0))
    return sorted(found, key=lambda each: each.at_s)


def test_everybody_asks_when_he_asked_then() -> None:
    asked = arrivals()
    outcome = replay(asked, SETUP, Arm.named("seconds"))
    ordered = sorted(sample.asked_at for sample in outcome.samples)
    assert ordered == [each.at_s for each in asked]


def test_policies_differ_on_the_same_arrivals() -> None:
    recorded = Recorded(arrivals(), 0, 0)
    found = compare_replayed(recorded, SETUP, ["seconds", "random"], lambda _: None)
    kept, scattered = found.arms["seconds"], found.arms["random"]
    assert kept.requests == scattered.requests == 20
    assert kept.hit_rate_reported > scattered.hit_rate_reported
    assert found.setup.conversations == 4
