"""The sizes of a decoder-only transformer that decide what it costs, read from its config.

Grouped-query attention over the whole context, then a gated feed-forward layer or a mixture of
them. A config that says more than this is refused: measured as if it did not, it would mislead.
"""

from collections.abc import Mapping
from dataclasses import dataclass


class ConfigError(ValueError):
    """The config names no model that can be measured; the text says why."""


# Each changes what attention or the experts cost. Absent, null, 0, 1, false or empty is harmless.
_UNKNOWN = (
    "kv_lora_rank",
    "layer_types",
    "linear_num_key_heads",
    "mlp_only_layers",
    "n_shared_experts",
    "shared_expert_intermediate_size",
    "shared_intermediate_size",
)
_QK_NORM = ("qwen3", "qwen3_moe", "minimax_m2")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Counts and widths; `experts` 0 is a dense model, whose `ffn` is its one layer's width."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    experts: int = 0
    experts_per_token: int = 0
    qk_norm: bool = False
    tied: bool = False
    norm_eps: float = 1e-6
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        sizes = (self.layers, self.hidden, self.heads, self.kv_heads, self.head_dim, self.ffn)
        if min(*sizes, self.vocab) < 1:
            raise ConfigError("every size must be positive")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise ConfigError("heads must be a multiple of kv heads, head_dim even")
        if not 0 <= self.experts_per_token <= self.experts:
            raise ConfigError("more experts per token than experts")

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> "ModelShape":
        """A Hugging Face config.json, or its text part. Raises ConfigError."""
        if not isinstance(config, Mapping):
            raise ConfigError("a model's config is one object")
        nested = config.get("text_config")
        if isinstance(nested, Mapping):
            config = nested
        _refuse(config)
        heads, hidden = _count(config, "num_attention_heads"), _count(config, "hidden_size")
        experts = _count(config, "num_experts", "num_local_experts", default=0)
        width = (
            ("moe_intermediate_size", "intermediate_size") if experts else ("intermediate_size",)
        )
        model_type = str(config.get("model_type", "decoder"))
        return cls(
            model_type=model_type,
            layers=_count(config, "num_hidden_layers"),
            hidden=hidden,
            heads=heads,
            kv_heads=_count(config, "num_key_value_heads", default=heads),
            head_dim=_count(config, "head_dim", default=hidden // heads),
            ffn=_count(config, *width),
            vocab=_count(config, "vocab_size"),
            experts=experts,
            experts_per_token=_count(config, "num_experts_per_tok") if experts else 0,
            qk_norm=model_type in _QK_NORM or bool(config.get("use_qk_norm")),
            tied=bool(config.get("tie_word_embeddings")),
            norm_eps=_number(config, "rms_norm_eps", 1e-6),
            rope_theta=_number(config, "rope_theta", 10_000.0),
        )

    @property
    def parameters(self) -> int:
        """Weights of the whole model."""
        per_layer = self._attention_weights + self._ffn_weights * max(1, self.experts)
        router = self.hidden * self.experts
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return self.layers * (per_layer + router) + embeddings

    @property
    def flops_per_token(self) -> int:
        """Of one token's linear layers; attention comes on top with the context."""
        active = self._attention_weights + self._ffn_weights * max(1, self.experts_per_token)
        return 2 * self.layers * (active + self.hidden * self.experts)

    @property
    def attention_flops_per_token2(self) -> int:
        """Of one token over one token of context: scores and their weighted sum, all layers."""
        return 4 * self.layers * self.heads * self.head_dim

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes

    @property
    def _attention_weights(self) -> int:
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def _ffn_weights(self) -> int:
        return 3 * self.hidden * self.ffn


def _refuse(config: Mapping[str, object]) -> None:
    for key in _UNKNOWN:
        value = config.get(key)
        full = isinstance(value, list) and set(value) <= {"full_attention"}
        if value and not full:
            raise ConfigError(f"{key} = {value!r}: this model is not measured by calibrate")
    if config.get("decoder_sparse_step", 1) != 1:
        raise ConfigError("decoder_sparse_step: layers that differ are not measured by calibrate")
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        raise ConfigError("sliding_window: attention over a window is not measured by calibrate")


def _count(config: Mapping[str, object], *names: str, default: int | None = None) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if value is not None:
            raise ConfigError(f"{name} = {value!r}: a whole number is expected")
    if default is None:
        raise ConfigError(f"{' or '.join(names)} is missing")
    return default


def _number(config: Mapping[str, object], name: str, default: float) -> float:
    value = config.get(name)
    return float(value) if isinstance(value, int | float) else default
