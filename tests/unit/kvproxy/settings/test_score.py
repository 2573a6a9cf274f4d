import json
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import ValidationError

from kvproxy.core.score import Weights
from kvproxy.core.tier_costs import TierCosts
from kvproxy.settings.score import ScoreSettings


def test_tiers_load_as_fast_by_default_as_the_core_assumes() -> None:
    settings, weights = ScoreSettings(), Weights()
    assert settings.dram_tok_s == weights.dram_tok_s
    assert settings.disk_tok_s == weights.disk_tok_s


@pytest.mark.parametrize("key", ["prefill_tok_s", "dram_tok_s", "disk_tok_s"])
def test_rates_are_positive(key: str) -> None:
    assert getattr(ScoreSettings.model_validate({key: "1k"}), key) == 1000
    with pytest.raises(ValidationError):
        ScoreSettings.model_validate({key: 0})


def test_a_calibration_gives_what_is_not_given(tmp_path: Path) -> None:
    costs = TierCosts(41_234.5, 1e-9, 0.002, 0.004, 5e-5, 3e-8, 380_000.0, 1, 1, 0.02)
    file = tmp_path / "preset.txt"
    file.write_text(json.dumps({"costs": asdict(costs)}))
    found = ScoreSettings.model_validate({"preset_file": str(file), "dram_tok_s": 7})
    assert (found.prefill_tok_s, found.attn_s_per_tok2, found.dram_tok_s) == (41_234, 1e-9, 7)
    file.write_text("{}")
    for bad in (file, tmp_path / "absent"):
        with pytest.raises(ValidationError, match=bad.name):
            ScoreSettings.model_validate({"preset_file": str(bad)})
