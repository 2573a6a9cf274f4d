"""From times to laws: what is written to the file, and what others read of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from kvproxy.core.tier_costs import TierCosts
from loadgen.calibration import break_even
from loadgen.calibration.fit import (
    DecodeLaw,
    LoadLaw,
    PrefillLaw,
    Residuals,
    fit_decode,
    fit_load,
    fit_prefill,
    residuals,
)
from loadgen.calibration.model_shape import ModelShape
from loadgen.calibration.records import KV_BYTES, Measured, Options

# Smaller steps cost what reading the weights takes, whatever they compute; the law that the
# proxy learns from leaves them out too.
_FIT_NEW_MIN = 512
_BROKEN = 0.15
_DECODE_STEP_MIN_S = 1e-4
_DRAM_GB = (64, 128, 256, 512, 1024)
# A turn of a coding agent: what it comes back with, and what it adds.
_RETURNING_TOKENS, _ADDED_TOKENS = 65_536, 2_048
# What the tier's price is read from: whole chunks, as LMCache moves them.
_TIER = ("chunk", 256)


@dataclass(frozen=True, slots=True)
class Laws:
    """Fitted laws and what they leave; `broken` are (new, context, residual) off by more than
    15 %, over all that was measured. Loads by (kind, block)."""

    prefill: PrefillLaw
    prefill_residuals: Residuals
    prompt_residuals: Residuals
    broken: tuple[tuple[int, int, float], ...]
    decode: DecodeLaw
    decode_residuals: Residuals
    loads: dict[tuple[str, int], tuple[LoadLaw, Residuals]]


def laws_of(measured: Measured) -> Laws:
    points = [(row.new, row.context, row.time.median_s) for row in measured.prefill]
    least = fitted_from(measured)
    prefill = fit_prefill([point for point in points if point[0] >= least])
    fitted = [(prefill.step_s(n, c), s) for n, c, s in points if n >= least]
    each = residuals([(prefill.step_s(n, c), s) for n, c, s in points]).each
    broken = [
        (n, c, off) for (n, c, _), off in zip(points, each, strict=True) if abs(off) > _BROKEN
    ]
    steps = [(row.batch, row.context, row.time.median_s) for row in measured.decode]
    decode = fit_decode(steps)
    prompts = [
        (prefill.prompt_s(row.tokens, 0, row.chunk), row.time.median_s) for row in measured.prompts
    ]
    return Laws(
        prefill=prefill,
        prefill_residuals=residuals(fitted),
        prompt_residuals=residuals(prompts),
        broken=tuple(broken),
        decode=decode,
        decode_residuals=residuals([(decode.seconds(b, c), s) for b, c, s in steps]),
        loads=_load_laws(measured),
    )


def fitted_from(measured: Measured) -> int:
    """New tokens of the smallest step that the prefill law is of."""
    news = [row.new for row in measured.prefill]
    return min([new for new in news if new >= _FIT_NEW_MIN] or news)


def _load_laws(measured: Measured) -> dict[tuple[str, int], tuple[LoadLaw, Residuals]]:
    found = {}
    for kind, block in dict.fromkeys((row.kind, row.block) for row in measured.loads):
        rows = [row for row in measured.loads if (row.kind, row.block) == (kind, block)]
        points = [(row.tokens, row.time.median_s) for row in rows]
        law = fit_load(points)
        found[kind, block] = (law, residuals([(law.seconds(n), s) for n, s in points]))
    return found


def hbm_tokens(
    shape: ModelShape, options: Options, measured: Measured, memory_utilization: float
) -> int:
    """KV that fits beside weights and activations, in the share of the memory an engine takes;
    the planned context's on a device that does not tell its memory."""
    total = measured.device["memory_bytes"]
    assert isinstance(total, int)
    room = memory_utilization * total - measured.weight_bytes - measured.activation_bytes
    per_token = shape.kv_bytes_per_token(KV_BYTES[options.kv_dtype])
    return max(int(room / per_token), measured.plan.cache_tokens)


def tier_costs(measured: Measured, laws: Laws, kv_bytes: int, hbm: int) -> TierCosts:
    """What emulator, simulator and score take over. A step's fixed part never exceeds what a
    decode step alone was measured to take, so that decoding keeps its measured pace."""
    base_s = min(laws.prefill.base_s, laws.decode.step_s)
    beside = [row for row in measured.overlaps if (row.kind, row.block) == _TIER]
    slower = beside[0].load_s / beside[0].load_alone_s if beside else 1.0
    return TierCosts(
        prefill_tok_s=1 / laws.prefill.s_per_tok,
        attn_s_per_tok2=laws.prefill.s_per_tok2,
        step_base_s=base_s,
        decode_step_s=max(laws.decode.step_s - base_s, _DECODE_STEP_MIN_S),
        decode_seq_s=laws.decode.seq_s,
        decode_kv_s_per_tok=laws.decode.kv_s_per_tok,
        dram_tok_s=1 / (laws.loads[_TIER][0].s_per_tok * max(1.0, slower)),
        kv_bytes_per_token=kv_bytes,
        hbm_tokens=hbm,
        dram_write_share=store_slowdown(measured),
    )


def prefix_lengths(max_context: int) -> list[int]:
    lengths, tokens = [], 256
    while tokens < max_context:
        lengths.append(tokens)
        tokens *= 2
    return [*lengths, max_context]


def tiers_pay(measured: Measured, laws: Laws, costs: TierCosts) -> list[break_even.TierPays]:
    plan = measured.plan
    load = LoadLaw(laws.loads[_TIER][0].start_s, 1 / costs.dram_tok_s)
    length = returning_tokens(measured)
    returning = break_even.prefixes([length], load, laws.prefill, plan.chunk)[0]
    added_s = laws.prefill.step_s(min(_ADDED_TOKENS, plan.chunk), length)
    overhead_s = added_s * store_slowdown(measured)
    return [
        break_even.tier_pays(gb, costs.kv_bytes_per_token, costs.hbm_tokens, returning, overhead_s)
        for gb in _DRAM_GB
    ]


def returning_tokens(measured: Measured) -> int:
    return min(_RETURNING_TOKENS, measured.plan.max_context)


def store_slowdown(measured: Measured) -> float:
    """Share by which a prefill is slower while KV is written to the host."""
    shares = [
        row.prefill_s / row.prefill_alone_s - 1
        for row in measured.overlaps
        if (row.kind, row.block) == ("store", _TIER[1])
    ]
    return max(0.0, *shares, 0.0)


def as_json(
    command: str,
    *,
    shape: ModelShape,
    options: Options,
    measured: Measured,
    laws: Laws,
    costs: TierCosts,
) -> dict[str, object]:
    return {
        "command": command,
        "costs": asdict(costs),
        "model": asdict(shape) | {"parameters": shape.parameters},
        "options": asdict(options),
        "laws": {
            "prefill": asdict(laws.prefill) | _summary(laws.prefill_residuals),
            "prompts": _summary(laws.prompt_residuals),
            "broken": [
                {"new": new, "context": context, "residual": round(off, 4)}
                for new, context, off in laws.broken
            ],
            "decode": asdict(laws.decode) | _summary(laws.decode_residuals),
            "loads": [
                {"kind": kind, "block": block} | asdict(law) | _summary(left)
                for (kind, block), (law, left) in laws.loads.items()
            ],
        },
        "break_even": {
            "prefixes": [asdict(row) for row in as_prefixes(measured, laws, costs)],
            "tiers": [asdict(row) for row in tiers_pay(measured, laws, costs)],
        },
        "measured": asdict(measured),
    }


def as_prefixes(measured: Measured, laws: Laws, costs: TierCosts) -> Sequence[break_even.Prefix]:
    load = LoadLaw(laws.loads[_TIER][0].start_s, 1 / costs.dram_tok_s)
    lengths = prefix_lengths(measured.plan.max_context)
    return break_even.prefixes(lengths, load, laws.prefill, measured.plan.chunk)


def _summary(left: Residuals) -> dict[str, float]:
    return {
        "residual_median": round(left.median_abs, 4),
        "residual_max": round(left.max_abs, 4),
    }
