from loadgen.engine_model import EngineLimits
from loadgen.schedule import Timing
from loadgen.simulate.run import Arm, Setup, simulate
from tests.support.traces import growing

TRACES = [growing(f"t{n}", [800, 960, 1600], first_id=1 + 200 * n) for n in range(6)]


def setup(dram_tokens: int, *, oracle: bool) -> Setup:
    limits = EngineLimits(hbm_tokens=3_200, dram_tokens=dram_tokens, block_size=16)
    timing = Timing(start_spread_s=0)
    return Setup(2, 1, limits=limits, timing=timing, warm_prefix_pct=0.0, oracle=oracle)


def test_what_engines_hold_is_what_is_predicted() -> None:
    for dram_tokens in (0, 20_000):
        for sample in simulate(
            TRACES, setup(dram_tokens, oracle=True), Arm.named("seconds")
        ).samples:
            assert sample.predicted == sample.cached


def test_the_model_of_both_tiers_needs_no_oracle() -> None:
    for dram_tokens in (0, 20_000):
        for sample in simulate(
            TRACES, setup(dram_tokens, oracle=False), Arm.named("seconds")
        ).samples:
            assert abs(sample.predicted - sample.cached) <= 256
