from loadgen.engine_model import EngineLimits
from loadgen.schedule import Timing
from loadgen.simulate.ramp import RampGate, RampRule
from loadgen.simulate.run import Arm, Setup, simulate
from tests.support.traces import growing

RULE = RampRule(ttft_max_s=10.0, users_max=20)


def test_headroom_says_how_many() -> None:
    assert RampGate(RULE).more([0.0], 1) == 7
    assert RampGate(RULE).more([7.0], 1) == 3
    assert RampGate(RULE).more([8.5], 1) == 0
    assert RampGate(RULE).more([0.0], 18) == 2


def test_the_slow_ones_decide_over_recent_periods() -> None:
    gate = RampGate(RULE)
    assert gate.more([0.1] * 10 + [9.9] * 10, 1) == 0
    assert gate.more([0.1], 1) == 4


def test_bad_periods_are_followed_by_a_cooldown_and_careful_steps() -> None:
    gate = RampGate(RULE)
    assert gate.more([], 1) == 0
    assert [gate.more([1.0], 1) for _ in range(5)] == [0, 0, 1, 1, 7]
    assert [gate.more([], 1) for _ in range(3)] == [0, 0, 0]
    assert [gate.more([1.0], 1) for _ in range(4)] == [0, 0, 0, 1]


def test_users_join_while_it_goes_well() -> None:
    traces = [growing(f"t{n}", [800, 880, 960]) for n in range(8)]
    limits = EngineLimits(hbm_tokens=100_000, block_size=16)
    setup = Setup(
        8,
        1,
        limits=limits,
        duration_s=100.0,
        timing=Timing(),
        ramp=RampRule(10.0, 3, users_first=1),
    )
    early = [s for s in simulate(traces, setup, Arm.named("seconds")).samples if s.asked_at < 29]
    late = [s for s in simulate(traces, setup, Arm.named("seconds")).samples if s.asked_at > 61]
    assert len({s.asked_at for s in early}) == len(early)
    assert len(late) > 0
