import pytest

from loadgen.engine.rates import EngineLimits, EngineRates


def test_prefill_time_does_not_depend_on_the_cut():
    rates = EngineRates(prefill_tok_s=500, attn_s_per_tok2=1e-5)
    whole = rates.prefill_s(1000, 200)
    assert rates.prefill_s(300, 200) + rates.prefill_s(700, 500) == pytest.approx(whole)
    assert whole == pytest.approx(2.0 + 1e-5 * (1200**2 - 200**2) / 2)


def test_decode_time_grows_with_the_batch():
    rates = EngineRates(decode_step_s=0.01, decode_seq_s=0.001)
    assert rates.decode_s(0) == 0
    assert rates.decode_s(5) == pytest.approx(0.015)


@pytest.mark.parametrize(
    "wrong",
    [{"prefill_tok_s": 0}, {"dram_tok_s": -1}, {"decode_step_s": 0}, {"attn_s_per_tok2": -1}],
)
def test_wrong_rates(wrong):
    with pytest.raises(ValueError, match="must"):
        EngineRates(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"block_size": 0}, {"hbm_tokens": 15}, {"max_num_batched_tokens": 10}, {"dram_tokens": -1}],
)
def test_wrong_limits(wrong):
    with pytest.raises(ValueError, match=r"must|less"):
        EngineLimits(**wrong)


def test_blocks_are_whole():
    assert EngineLimits(hbm_tokens=1000, block_size=16).num_blocks == 62


def test_decode_time_grows_with_the_contexts():
    rates = EngineRates(decode_step_s=0.01, decode_kv_s_per_tok=1e-6)
    assert rates.decode_s(0, 9) == 0
    assert rates.decode_s(2, 5000) == pytest.approx(0.015)
