"""How much KV a model keeps for a token, from its config.json."""

from collections.abc import Mapping
from typing import NamedTuple

# Element sizes by the names that configs and --kv-cache-dtype use.
DTYPE_BYTES = {
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "half": 2,
    **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "int8"), 1),
}
_WINDOWED = ("sliding_attention", "chunked_attention", "local_attention")
_WHOLE = ("full_attention", "attention", "global_attention")


class ModelConfigError(ValueError):
    """A config that does not tell the size of its KV; the text says what is missing."""


class KvShape(NamedTuple):
    """`layers` keep KV of the whole context, `windowed` of the last `window` tokens only; others
    (linear, Mamba) keep a state that does not grow. `values`: numbers per token and layer over all
    heads; `heads` 0: one latent vector, which every rank keeps (MLA)."""

    layers: int
    windowed: int
    window: int
    values: int
    heads: int
    dtype: str

    def token_bytes(self, kv_dtype: str | None, ranks: int = 1) -> float:
        """KV bytes of one more token of context, over all `ranks` of tensor parallelism."""
        return self.layers * self._layer_bytes(kv_dtype, ranks)

    def fixed_bytes(self, kv_dtype: str | None, ranks: int = 1) -> float:
        """KV bytes of a conversation's windows, however long it is."""
        return self.windowed * self.window * self._layer_bytes(kv_dtype, ranks)

    def _layer_bytes(self, kv_dtype: str | None, ranks: int) -> float:
        # Ranks beyond the number of heads hold copies.
        copies = ranks if not self.heads else max(1.0, ranks / self.heads)
        return self.values * DTYPE_BYTES[kv_dtype or self.dtype] * copies


def kv_shape(config: object) -> KvShape:
    """Of a Hugging Face config.json, or its text part. Raises ModelConfigError."""
    if not isinstance(config, Mapping):
        raise ModelConfigError("not a JSON object")
    nested = config.get("text_config")
    if isinstance(nested, Mapping):
        config = {"torch_dtype": config.get("torch_dtype") or config.get("dtype"), **nested}
    layers, windowed = _layers(config)
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    window = config.get("sliding_window") or config.get("attention_chunk_size") or 0
    latent = config.get("kv_lora_rank")
    if isinstance(latent, int) and latent:
        values, heads = latent + _count(config, "qk_rope_head_dim"), 0
    else:
        all_heads = _count(config, "num_attention_heads")
        heads = _count(config, "num_key_value_heads", default=all_heads)
        given = _count(config, "head_dim") if config.get("head_dim") else 0
        values = 2 * heads * (given or _count(config, "hidden_size") // all_heads)
    return KvShape(
        layers,
        windowed,
        window if isinstance(window, int) else 0,
        values,
        heads,
        dtype if dtype in DTYPE_BYTES else "bfloat16",
    )


def _layers(config: Mapping[str, object]) -> tuple[int, int]:
    """(layers over the whole context, layers over a window)."""
    count = _count(config, "num_hidden_layers")
    kinds = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(kinds, list) and kinds:
        whole = sum(kind in _WHOLE for kind in kinds)
        return whole, sum(kind in _WINDOWED for kind in kinds)
    every = config.get("full_attention_interval")
    if isinstance(every, int) and every > 1:
        return count // every, 0
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        pattern = config.get("sliding_window_pattern")
        if isinstance(pattern, int) and pattern > 1:
            return count // pattern, count - count // pattern
        return 0, count
    return count, 0


def _count(config: Mapping[str, object], name: str, *, default: int | None = None) -> int:
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelConfigError(f"{name} is missing or no positive number")
    return value
