import pytest
from pydantic import ValidationError

from kvproxy.core.score import Weights
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
