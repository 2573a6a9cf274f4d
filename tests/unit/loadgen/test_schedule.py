from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from loadgen.schedule import Strategy, Timing, TraceQueue
from tests.support.traces import growing, turn

TRACES = [growing(f"t{n}", [32, 48]) for n in range(5)]


def test_think_time_is_capped_then_scaled() -> None:
    timing = Timing(think_cap_s=60, think_scale=0.5, time_scale=10)
    assert timing.think_s(turn(16, [1], think_s=40.0)) == 2.0
    assert timing.think_s(turn(16, [1], think_s=4000.0)) == 3.0


@given(st.integers(1, 50), st.integers())
def test_starts_spread_over_the_time_given(users: int, seed: int) -> None:
    starts = Timing(start_spread_s=30, time_scale=10).starts_s(users, seed)
    assert len(starts) == users
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] <= 3
    assert starts == Timing(start_spread_s=30, time_scale=10).starts_s(users, seed)


def test_without_recycling_every_trace_is_played_once_in_seeded_order() -> None:
    def order(seed: int) -> list[str]:
        queue = TraceQueue(TRACES, seed, recycle=False)
        taken = []
        while (next_one := queue.take()) is not None:
            taken.append(next_one[0].id)
            assert next_one[1] == 0
        return taken

    assert sorted(order(1)) == [trace.id for trace in TRACES]
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_recycling_passes_over_traces_in_use() -> None:
    queue = TraceQueue(TRACES, 1, recycle=True)
    held = queue.take()
    assert held is not None
    for _ in range(20):
        taken = queue.take()
        assert taken is not None
        assert taken[0] is not held[0]
        queue.give_back(taken[0])
    queue.give_back(held[0])


def test_what_was_declined_is_handed_out_again_as_the_same_play() -> None:
    queue = TraceQueue([growing("a", [16]), growing("b", [16])], 1, recycle=True)
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    queue.decline(*second)
    queue.decline(*first)
    assert {queue.take(), queue.take()} == {first, second}


def test_more_users_than_traces_play_the_same_trace_under_other_numbers() -> None:
    queue = TraceQueue(TRACES, 1, recycle=True)
    taken = [queue.take() for _ in range(15)]
    plays = [(item[0].id, item[1]) for item in taken if item is not None]
    assert len(set(plays)) == 15
    assert {play for _, play in plays} == {0, 1, 2}


def test_timing_strategies() -> None:
    before = turn(16, [1], t_s=100.0, api_s=4.0)
    after = turn(16, [1], t_s=120.0, think_s=15.0)

    def due(strategy: Strategy, ended: float, **given: float) -> float:
        return Timing(strategy=strategy, **given).due(after, before, 10.0, ended)

    assert due("think", 12.0) == 27.0
    # From the start of the turn before, however long it took …
    assert due("original", 12.0) == 30.0
    assert due("api", 12.0) == 29.0
    assert due("api", 12.0, api_scale=0.5, think_scale=2.0) == 42.0
    # … but never before its end.
    assert due("original", 50.0) == due("api", 50.0) == 50.0
    assert due("original", 12.0, think_cap_s=5.0, time_scale=2.0) == 12.5
    unknown = replace(before, api_s=None)
    assert Timing(strategy="api").due(after, unknown, 10.0, 12.0) == 30.0


def test_the_first_turn_is_somewhere_between() -> None:
    traces = [growing(f"t{n}", [64] * 20) for n in range(200)]
    firsts = [Timing(advance=(0.25, 0.75)).first_turn(trace, 1) for trace in traces]
    assert (min(firsts), max(firsts)) == (5, 14)
    assert {Timing().first_turn(trace, 1) for trace in traces} == {0}
    assert Timing(advance=(1, 1)).first_turn(traces[0], 1) == 19


def test_traces_as_they_began() -> None:
    traces = [replace(growing(f"t{n}", [64]), start_s=9.0 - n) for n in range(3)]
    queue = TraceQueue(traces, 1, recycle=False, as_recorded=True)
    taken = [queue.take() for _ in range(4)]
    assert [pair and pair[0].id for pair in taken] == ["t2", "t1", "t0", None]
