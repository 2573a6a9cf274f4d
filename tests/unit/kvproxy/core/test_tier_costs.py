from dataclasses import asdict

import pytest

from kvproxy.core.tier_costs import TierCosts

COSTS = TierCosts(40_000.0, 1e-9, 0.002, 0.004, 5e-5, 3e-8, 380_000.0, 131_072, 880_000, 0.02)


def test_costs_are_read_from_a_calibration() -> None:
    assert TierCosts.from_json({"costs": asdict(COSTS), "measured": {}}) == COSTS


@pytest.mark.parametrize("found", [None, [], {}, {"costs": 3}])
def test_something_else_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match="calibrate"):
        TierCosts.from_json(found)


@pytest.mark.parametrize("value", [None, "1", True, -1.0, float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"costs\.decode_seq_s"):
        TierCosts.from_json({"costs": asdict(COSTS) | {"decode_seq_s": value}})


@pytest.mark.parametrize("name", ["prefill_tok_s", "decode_step_s", "dram_tok_s", "hbm_tokens"])
def test_rates_are_not_zero(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TierCosts.from_json({"costs": asdict(COSTS) | {name: 0}})
