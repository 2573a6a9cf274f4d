import json
from pathlib import Path

import pytest

from loadgen.calibration.model_shape import ConfigError, ModelShape

MODELS = Path(__file__).resolve().parents[4] / "config" / "models"


@pytest.mark.parametrize(
    ("name", "parameters", "active_flops", "kv_bytes"),
    [
        # Published: 8.03 and 30.5 billion parameters, 128 KiB and 96 KiB of KV in bf16.
        ("llama-3.1-8b", 8.03e9, 2 * 6.98e9, 128 * 1024),
        ("qwen3-30b-a3b", 30.5e9, 2 * 2.73e9, 96 * 1024),
    ],
)
def test_sizes_of_known_models(
    name: str, parameters: float, active_flops: float, kv_bytes: int
) -> None:
    shape = ModelShape.from_config(json.loads((MODELS / f"{name}.json").read_text()))
    assert shape.parameters == pytest.approx(parameters, rel=2e-3)
    assert shape.flops_per_token == pytest.approx(active_flops, rel=2e-3)
    assert shape.kv_bytes_per_token(2) == kv_bytes


BASE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 128,
}


def test_what_is_left_out_follows_from_the_rest() -> None:
    shape = ModelShape.from_config({"text_config": BASE})
    assert (shape.kv_heads, shape.head_dim, shape.experts, shape.ffn) == (4, 16, 0, 96)
    assert ModelShape.from_config(BASE | {"layer_types": ["full_attention"] * 2}) == shape


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"kv_lora_rank": 512}, "kv_lora_rank"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"decoder_sparse_step": 2}, "decoder_sparse_step"),
        ({"num_key_value_heads": 3}, "multiple"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"num_experts": 2, "num_experts_per_tok": 3}, "more experts"),
        ({"intermediate_size": 0}, "positive"),
    ],
)
def test_what_cannot_be_measured_is_refused(more: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ModelShape.from_config(BASE | more)
