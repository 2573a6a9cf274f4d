from itertools import pairwise

from loadgen.engine_model import EngineLimits
from loadgen.schedule import Timing
from loadgen.simulate.run import Arm, Setup, simulate
from loadgen.traces.model import SubAgent
from tests.support.traces import growing, trace, turn

ROOMY = Setup(2, 1, limits=EngineLimits(block_size=16), timing=Timing(), warm_prefix_pct=0.0)
ARM = Arm.named("sticky_least_loaded")


def test_no_more_conversations_than_lanes_are_alive() -> None:
    traces = [growing(f"t{n}", [100, 120, 140]) for n in range(5)]
    samples = simulate(traces, ROOMY, ARM).samples
    spans = {}
    for sample in samples:
        begin, end = spans.get(sample.conversation, (sample.asked_at, 0.0))
        spans[sample.conversation] = (min(begin, sample.asked_at), max(end, sample.finished_at))
    assert len(spans) == 5
    for at in (begin for begin, _ in spans.values()):
        assert sum(begin <= at < end for begin, end in spans.values()) <= 2


def test_turns_follow_each_other_after_the_think_time() -> None:
    steps = [turn(64, range(4)), turn(96, range(6), think_s=7.0), turn(128, range(8), think_s=3.0)]
    samples = simulate([trace(steps, "t")], ROOMY, ARM).samples
    gaps = [after.asked_at - before.finished_at for before, after in pairwise(samples)]
    assert [round(gap, 6) for gap in gaps] == [7.0, 3.0]


def test_a_parent_waits_for_the_children_it_waited_for() -> None:
    inner = tuple(turn(64 + 32 * n, range(50, 54 + 2 * n), think_s=100.0 * n) for n in range(2))
    for waits in (True, False):
        child = SubAgent("s", 0.0, inner, 0, waits=waits)
        made = trace([turn(64, range(4)), child, turn(96, range(6), think_s=1.0)], "t")
        samples = simulate([made], ROOMY, ARM).samples
        assert {sample.conversation for sample in samples} == {"t.0", "t.0/s"}
        child_end = max(s.finished_at for s in samples if s.conversation == "t.0/s")
        last = max(s.asked_at for s in samples if s.conversation == "t.0")
        assert (last >= child_end) == waits
