from loadgen.engine_model import EngineLimits
from loadgen.ramp.certify import CertifyRule
from loadgen.ramp.classic import ClassicRule
from loadgen.ramp.slo import Limit, Slo
from loadgen.schedule import Timing
from loadgen.simulate.run import Arm, Setup, simulate
from tests.support.knees import DIRECT, cache_knee, steady
from tests.support.traces import growing


def test_users_join_while_it_goes_well() -> None:
    traces = [growing(f"t{n}", [800, 880, 960]) for n in range(8)]
    limits = EngineLimits(hbm_tokens=100_000, block_size=16)
    setup = Setup(
        8,
        1,
        limits=limits,
        duration_s=100.0,
        timing=Timing(),
        ramp=ClassicRule(10.0, 3, users_first=1),
    )
    early = [s for s in simulate(traces, setup, Arm.named("seconds")).samples if s.asked_at < 29]
    late = [s for s in simulate(traces, setup, Arm.named("seconds")).samples if s.asked_at > 61]
    assert len({s.asked_at for s in early}) == len(early)
    assert len(late) > 0


def test_paused_users_ask_for_nothing_and_the_end_is_the_end() -> None:
    rule = CertifyRule(Slo((Limit("ttft_s", 1.0),)), 8, users_first=6, hold_s=300.0)
    outcome = simulate(steady(16), cache_knee(2, 1, rule), DIRECT)
    ramp = outcome.ramp
    assert ramp is not None
    assert ramp.done
    held_from_s = ramp.notes[-2].at_s
    assert ramp.notes[-1].users == 2
    held = {s.conversation for s in outcome.samples if s.asked_at > held_from_s + 1}
    assert len(held) == 2
    assert outcome.clock_s == ramp.notes[-1].at_s
