from dataclasses import replace

from loadgen.engine_model import EngineLimits
from loadgen.schedule import Timing
from loadgen.simulate.run import Arm, Setup, simulate
from tests.support.traces import growing

LIMITS = EngineLimits(hbm_tokens=3_000, block_size=16)
TIGHT = Setup(8, 1, limits=LIMITS, timing=Timing(start_spread_s=0), warm_prefix_pct=0.0)
TRACES = [growing(f"t{n}", [800, 880, 960]) for n in range(8)]


def test_held_back_requests_all_get_their_turn() -> None:
    outcome = simulate(TRACES, TIGHT, Arm.named("seconds"))
    assert len(outcome.samples) == 24
    assert outcome.queue_length_max > 0
    assert max(sample.waited_s for sample in outcome.samples) > 0


def test_the_clock_stops_where_it_is_told_to() -> None:
    outcome = simulate(TRACES, replace(TIGHT, duration_s=10.0), Arm.named("seconds"))
    assert outcome.clock_s <= 10.0
    assert all(sample.finished_at <= 10.0 for sample in outcome.samples)
