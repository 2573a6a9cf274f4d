"""What one replica's work costs in seconds, as `kvproxy calibrate` measured it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf


@dataclass(frozen=True, slots=True)
class TierCosts:
    """Seconds of an engine step: step_base_s + prefill + decode. Prefill of m tokens at a mean
    context c: m / prefill_tok_s + attn_s_per_tok2 x m x c. Decode of n sequences: decode_step_s +
    decode_seq_s x n + decode_kv_s_per_tok x tokens of their contexts. `dram_tok_s`: tokens loaded
    per second from host memory while a prefill runs. `hbm_tokens`: KV that fits beside the model.
    `dram_write_share`: share by which prefill is slower while new KV is written to host memory.
    """

    prefill_tok_s: float
    attn_s_per_tok2: float
    step_base_s: float
    decode_step_s: float
    decode_seq_s: float
    decode_kv_s_per_tok: float
    dram_tok_s: float
    kv_bytes_per_token: int
    hbm_tokens: int
    dram_write_share: float

    @classmethod
    def from_json(cls, found: object) -> "TierCosts":
        """The `costs` of a whole calibration. Raises ValueError, saying what is wrong."""
        costs = found.get("costs") if isinstance(found, Mapping) else None
        if not isinstance(costs, Mapping):
            raise ValueError("no object `costs`: not written by `kvproxy calibrate`")
        values = {}
        for field in fields(cls):
            value = costs.get(field.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _no_number(field.name, value)
            if not 0 <= value < inf:
                raise _no_number(field.name, value)
            values[field.name] = value
        for name in ("prefill_tok_s", "decode_step_s", "dram_tok_s", "hbm_tokens"):
            if not values[name]:
                raise ValueError(f"costs.{name} must not be 0")
        return cls(**values)  # type: ignore[arg-type]  # the loop above checked them


def _no_number(name: str, value: object) -> ValueError:
    return ValueError(f"costs.{name}: {value!r} is not a number >= 0")
