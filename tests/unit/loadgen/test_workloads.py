import pytest

from loadgen.bound import InfiniteCache
from loadgen.layout import Overhead
from loadgen.plan import ContentSettings, Plans
from loadgen.traces.model import Trace
from loadgen.warm import Warm
from loadgen.workloads import BLOCK, cold_warm, doubling, hit_rate, working_set


def cached_shares(traces: list[Trace]) -> list[list[float]]:
    """What a cache that never forgets would have had of every turn, by conversation."""
    plans, cache = Plans(ContentSettings(1, Warm(), Overhead(), 1.0)), InfiniteCache(16)
    shares = []
    for trace in traces:
        plan = plans.of(trace)
        play = cache.play(plan)
        requests = [plan.request(0, turn) for turn in range(trace.request_count)]
        shares.append([play.send(request) / plan.planned_tokens(request) for request in requests])
    return shares


def test_the_second_time_all_is_cached() -> None:
    for cold, warm in cached_shares(cold_warm(6400, 3)):
        assert cold == 0
        assert warm == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9, 1.0])
def test_the_share_asked_for_is_the_share_that_can_hit(share: float) -> None:
    traces = hit_rate(share, 6400, users=2, turns=3)
    for first, *further in cached_shares(traces):
        assert first == 0
        assert further == pytest.approx([share] * 3, abs=0.02)


def test_a_working_set_is_as_large_as_asked() -> None:
    traces = working_set(64_000, 6400, rounds=3)
    assert len(traces) == 10
    assert sum(trace.turns[0].input_tokens for trace in traces) == 64_000
    assert all(len(turn.blocks) == 6400 // BLOCK for turn in traces[0].turns)
    assert len(working_set(100, 6400, 2)) == 1


def test_doubling_ends_at_the_end() -> None:
    assert list(doubling(1, 6)) == [1, 2, 4, 6]
    assert list(doubling(4, 4)) == [4]
    assert list(doubling(9, 4)) == [4]
