import pytest

from kvproxy.core.model_kv import ModelConfigError, kv_shape

GQA = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "torch_dtype": "bfloat16",
}
MLA = {
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "hidden_size": 7168,
}
MIXED = GQA | {"layer_types": ["full_attention"] * 8 + ["sliding_attention"] * 24,
               "sliding_window": 1024}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "token_bytes"),
    [
        (GQA, 2 * 32 * 8 * 128 * 2),
        (GQA | {"torch_dtype": "float32"}, 2 * 32 * 8 * 128 * 4),
        (GQA | {"head_dim": 64}, 2 * 32 * 8 * 64 * 2),
        ({"text_config": GQA, "dtype": "bfloat16"}, 2 * 32 * 8 * 128 * 2),
        (MLA, 61 * 576 * 2),
        (MIXED, 8 * 2 * 8 * 128 * 2),
        (GQA | {"full_attention_interval": 4}, 8 * 2 * 8 * 128 * 2),
        (GQA | {"sliding_window": 4096}, 0),
        (GQA | {"sliding_window": 4096, "use_sliding_window": False}, 2 * 32 * 8 * 128 * 2),
        (GQA | {"sliding_window": 4096, "sliding_window_pattern": 2}, 2 * 16 * 8 * 128 * 2),
    ],
)
def test_bytes_of_a_token(config: dict[str, object], token_bytes: int) -> None:
    assert kv_shape(config).token_bytes(None) == token_bytes


def test_windows_are_kept_once() -> None:
    assert kv_shape(MIXED).fixed_bytes(None) == 24 * 1024 * 2 * 8 * 128 * 2


def test_fp8_halves_and_ranks_copy_what_they_cannot_split() -> None:
    shape = kv_shape(GQA)
    assert shape.token_bytes("fp8") * 2 == shape.token_bytes(None)
    assert shape.token_bytes(None, 8) == shape.token_bytes(None)
    assert shape.token_bytes(None, 16) == 2 * shape.token_bytes(None)
    assert kv_shape(MLA).token_bytes(None, 8) == 8 * kv_shape(MLA).token_bytes(None)


@pytest.mark.parametrize(
    "config",
    [
        *(None, [], {}, GQA | {"num_hidden_layers": "32"}, GQA | {"hidden_size": 0}),
        GQA | {"head_dim": 64.5},
    ],
)
def test_what_is_no_config(config: object) -> None:
    with pytest.raises(ModelConfigError):
        kv_shape(config)
