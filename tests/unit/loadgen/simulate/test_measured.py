import pytest

from kvproxy.core.tier_costs import TierCosts
from loadgen.engine_model import EngineLimits, EngineRates
from loadgen.simulate import measured
from loadgen.simulate.run import Setup
from tests.support.traces import growing

TRACES = [growing(f"t{n}", range(2_048, 20_000, 2_048), size=64) for n in range(12)]
COSTS = TierCosts(4_000.0, 0.0, 0.0, 0.01, 0.0, 0.0, 1e6, 1000, 40_000, 0.25)
SETUP = Setup(
    conversations=1,
    replicas=4,
    rates=EngineRates(prefill_tok_s=4_000.0, attn_s_per_tok2=1e-9, dram_tok_s=1e6),
    limits=EngineLimits(hbm_tokens=40_000, dram_tokens=200_000, block_size=64),
    duration_s=1800.0,
)


def test_arms_differ_in_the_tier_and_what_writing_it_costs() -> None:
    hbm, dram = (measured.arm_setup(SETUP, COSTS, arm, 3) for arm in ("hbm", "dram"))
    assert (hbm.replicas, dram.replicas, hbm.seed) == (1, 1, 3)
    assert (hbm.limits.dram_tokens, dram.limits.dram_tokens) == (0, 200_000)
    assert hbm.limits.hbm_tokens == dram.limits.hbm_tokens
    assert dram.rates.prefill_s(1000, 500) == pytest.approx(1.25 * hbm.rates.prefill_s(1000, 500))


def test_hbm_wins_while_it_holds_everything_and_dram_beyond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured, "_CONTEXT_TOKENS", 10_000)
    monkeypatch.setattr(measured, "_SHARES", (0.25, 2.0))
    told: list[str] = []
    one, eight = measured.measured_crossover(TRACES, COSTS, SETUP, told.append)
    assert told == ["1 users", "8 users"]
    assert one.arms["dram"].ttft_mean_s > one.arms["hbm"].ttft_mean_s
    assert eight.arms["dram"].ttft_mean_s < eight.arms["hbm"].ttft_mean_s
    assert measured.measured_table(SETUP, [one, eight]).row_count == 2
