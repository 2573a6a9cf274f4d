import pytest

from loadgen.bound import InfiniteCache
from loadgen.plan import ContentSettings, Plans
from loadgen.sample import Sample
from loadgen.traces.model import SubAgent, Trace
from loadgen.versus.attainable import attainable
from loadgen.warm import Warm
from tests.support.traces import growing, trace, turn


def asked(traces: list[Trace], warm: Warm, plays: int = 1) -> list[Sample]:
    """Every turn of every trace in turn, with the exact bound of one endless cache."""
    plans, cache = Plans(ContentSettings(warm=warm), traces), InfiniteCache(16)
    samples = []
    for number in range(plays):
        for one in traces:
            play, at = cache.play(plans.of(one), number), 0
            for lane, turns in enumerate([one.turns, *(a.turns for a in one.sub_agents)]):
                agent = one.sub_agents[lane - 1].agent_id if lane else ""
                for index, each in enumerate(turns):
                    request = plans.of(one).request(lane, index)
                    at += 1
                    samples.append(
                        Sample(
                            f"{one.id}-1-{number}", one.id, index, agent,
                            t_intended=float(len(samples)), bound_tokens=play.send(request),
                            prompt_tokens=each.input_tokens,
                        )
                    )  # fmt: skip
    return samples


def test_without_a_limit_all_bounds_are_that_of_the_run() -> None:
    agent = SubAgent("s", 0.0, (turn(64, range(100, 104)), turn(80, range(100, 105))), 20, True)
    traces = [
        growing("a", [65, 130, 195]),
        trace([turn(64, range(1, 5)), agent, turn(96, range(1, 7))], "b"),
    ]
    samples = asked(traces, Warm(), plays=2)
    found = attainable(samples, traces, Warm(), 10**6)
    assert found is not None
    exact = sum(s.bound_tokens for s in samples) / sum(s.prompt_tokens or 0 for s in samples)
    assert found.infinite == pytest.approx(exact)
    assert found.infinite == found.pooled_lru == found.offline_min


def test_a_small_fleet_has_less_to_reach_and_foresight_more_of_it() -> None:
    traces = [growing(f"t{n}", [64, 128, 192]) for n in range(4)]
    samples = asked(traces, Warm())
    # All conversations in turn, turn by turn: a scan that is larger than the memory.
    samples.sort(key=lambda s: (s.turn, s.trace))
    for number, one in enumerate(samples):
        one.t_intended = float(number)
    found = attainable(samples, traces, Warm(), 256)
    assert found is not None
    assert found.pooled_lru < found.offline_min < found.infinite


def test_what_is_not_made_of_equal_blocks_of_its_own_has_no_bounds() -> None:
    traces = [growing("a", [64]), growing("b", [64], size=32)]
    samples = [Sample("a-1-0", "a", 0, prompt_tokens=64)]
    assert attainable(samples, traces, Warm(), 1000) is None
    assert attainable([], [growing("a", [64])], Warm(), 1000) is None
