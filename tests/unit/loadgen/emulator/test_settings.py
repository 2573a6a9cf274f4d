import pytest

from loadgen.emulator import EmulatorSettings


def test_context_is_never_longer_than_hbm():
    assert EmulatorSettings(max_model_len=1000, hbm_tokens=5000).context_tokens == 1000
    assert (
        EmulatorSettings(max_model_len=9000, hbm_tokens=5000, block_size=16).context_tokens == 4992
    )


def test_numbers_are_checked_at_once():
    for wrong in ({"time_scale": 0}, {"prefill_tok_s": 0}, {"hbm_tokens": 3}):
        with pytest.raises(ValueError, match=r"must|less"):
            EmulatorSettings(**wrong)


def test_a_small_step_budget_is_raised_to_the_number_of_sequences():
    assert EmulatorSettings(max_num_batched_tokens=8).limits().max_num_batched_tokens == 256
