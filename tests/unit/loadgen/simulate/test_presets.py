from array import array
from dataclasses import replace

import pytest

from loadgen.simulate.presets import (
    ARMS,
    LOADS,
    Load,
    crossover,
    crossover_table,
    live_tokens,
    play,
    preset_table,
    setup_of,
)
from loadgen.simulate.prompts import Prompt
from loadgen.simulate.world import Sample
from tests.support.traces import growing

TRACES = [growing(f"t{n}", range(2_048, 20_000, 2_048), size=64) for n in range(12)]


def test_sizes_follow_from_the_publication() -> None:
    base, stress = LOADS
    assert base.hbm_tokens == pytest.approx(803_333, abs=1)
    assert stress.hbm_tokens == pytest.approx(579_333, abs=1)
    assert setup_of(stress, "dram", 1).limits.dram_tokens == pytest.approx(533_333, abs=1)


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_arms_differ_in_their_tiers_and_the_measured_connector_alone(load: Load) -> None:
    vanilla, hbm, dram = (setup_of(load, name, 1) for name in ARMS)
    assert not vanilla.limits.prefix_caching
    assert replace(vanilla.limits, prefix_caching=True) == hbm.limits
    assert replace(dram.limits, dram_tokens=0) == hbm.limits
    assert vanilla.rates == hbm.rates
    assert replace(dram.rates, prefill_tok_s=hbm.rates.prefill_tok_s) == hbm.rates


def test_hbm_wins_where_it_holds_everything() -> None:
    played = play(TRACES, LOADS[0], (1,))
    arms = played.arms
    assert arms["hbm"].ttft_mean_s < arms["dram"].ttft_mean_s < arms["vanilla"].ttft_mean_s
    assert arms["vanilla"].hit_rate_reported == 0.0
    assert preset_table([played]).row_count == 3
    assert played.as_json()["load"] == "base"


def test_dram_wins_where_hbm_does_not() -> None:
    load = replace(LOADS[1], memory_share=0.615)
    one, six = crossover(TRACES, load, (1, 6), (1,))
    assert one.arms["dram"].ttft_mean_s > one.arms["hbm"].ttft_mean_s
    assert six.arms["dram"].ttft_mean_s < six.arms["hbm"].ttft_mean_s
    assert crossover_table(load.hbm_tokens, [one, six]).row_count == 2


def test_live_tokens_are_the_latest_prompts_within_the_window() -> None:
    def asked(name: str, tokens: int, at: float) -> Sample:
        return Sample(name, Prompt(array("Q"), tokens, 0), 1, at)

    samples = [asked("a", 5, 50.0), asked("b", 7, 150.0), asked("b", 9, 160.0)]
    assert live_tokens(samples, 200.0, 100.0) == 9
    assert live_tokens(samples, 200.0, 150.0) == 14
    assert live_tokens([], 0.0) == 0
