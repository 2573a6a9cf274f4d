import json
from dataclasses import replace

import pytest

from kvproxy.core.tier_costs import TierCosts
from loadgen.calibration import result
from loadgen.calibration.records import Options
from tests.support.calibrations import DECODE, DENSE, LOAD, PREFILL, measured


def test_the_laws_behind_the_times_are_found_and_where_they_break() -> None:
    found = measured(small_step_s=0.016)
    laws = result.laws_of(found)
    assert laws.prefill.s_per_tok == pytest.approx(PREFILL.s_per_tok, rel=0.02)
    assert laws.prefill.s_per_tok2 == pytest.approx(PREFILL.s_per_tok2, rel=0.02)
    assert laws.prefill_residuals.max_abs < 0.05
    assert laws.decode.kv_s_per_tok == pytest.approx(DECODE.kv_s_per_tok)
    assert laws.loads["chunk", 256][0].s_per_tok == pytest.approx(LOAD.s_per_tok)
    # Small steps take what reading the weights takes, which is not in the law.
    assert {new for new, _, _ in laws.broken} == {16, 128}


def test_costs_are_what_other_commands_price_with() -> None:
    found = measured()
    laws = result.laws_of(found)
    hbm = result.hbm_tokens(DENSE, Options("cpu"), found, 0.9)
    assert hbm == int((0.9 * 140e9 - 18e9) / DENSE.kv_bytes_per_token(2))
    costs = result.tier_costs(found, laws, 131_072, hbm)
    assert costs.prefill_tok_s == pytest.approx(1 / PREFILL.s_per_tok, rel=1e-3)
    assert costs.step_base_s + costs.decode_step_s == pytest.approx(DECODE.step_s, rel=1e-3)
    # Loads take a quarter longer beside a prefill, and writing slows one by a fiftieth.
    assert costs.dram_tok_s == pytest.approx(0.8 / LOAD.s_per_tok, rel=1e-3)
    assert costs.dram_write_share == pytest.approx(0.02)


def test_a_step_that_costs_more_than_decoding_is_not_taken_over() -> None:
    found = measured()
    found.decode = [row for row in found.decode if row.batch == 1 and row.context < 10_000]
    laws = result.laws_of(found)
    costs = result.tier_costs(found, laws, 1, 1)
    assert costs.step_base_s <= laws.decode.step_s
    assert costs.decode_step_s >= 1e-4


def test_the_file_is_read_back() -> None:
    found = measured(2048)
    laws = result.laws_of(found)
    costs = result.tier_costs(found, laws, 131_072, 800_000)
    written = json.dumps(
        result.as_json(
            "kvproxy calibrate", shape=DENSE, options=Options("cpu"), measured=found, laws=laws,
            costs=costs,
        )
    )  # fmt: skip
    assert TierCosts.from_json(json.loads(written)) == costs
    assert json.loads(written)["laws"]["prefill"]["residual_max"] < 0.5


def test_prefix_lengths_end_with_the_longest() -> None:
    assert result.prefix_lengths(1000) == [256, 512, 1000]


def test_a_law_of_small_steps_is_held_against_those_it_is_of() -> None:
    found = measured()
    found.prefill = [row for row in found.prefill if row.new < 512]
    bent = found.prefill[0]
    found.prefill[0] = replace(bent, time=replace(bent.time, median_s=2 * bent.time.median_s))
    laws = result.laws_of(found)
    assert result.fitted_from(found) == 16
    assert laws.prefill_residuals.max_abs > 0.05
