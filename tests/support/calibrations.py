"""Calibrations made up from known laws, so that what is found can be held against them."""

from loadgen.calibration.fit import DecodeLaw, LoadLaw, PrefillLaw
from loadgen.calibration.model_shape import ModelShape
from loadgen.calibration.plan import BLOCKS, Plan
from loadgen.calibration.records import Decode, Load, Measured, Overlap, Prefill, Prompt, Timed

PREFILL = PrefillLaw(0.003, 25e-6, 1e-9)
DECODE = DecodeLaw(0.005, 40e-6, 35e-9)
LOAD = LoadLaw(100e-6, 2.5e-6)
DENSE = ModelShape("llama", 2, 64, 4, 2, 16, 96, 128)
EXPERTS = ModelShape("qwen3_moe", 2, 64, 4, 2, 16, 32, 128, experts=8, experts_per_token=2,
                     qk_norm=True)  # fmt: skip


def timed(seconds: float) -> Timed:
    return Timed(seconds, 0.99 * seconds, 1.01 * seconds, 5)


def measured(context: int = 131_072, small_step_s: float = 0.006) -> Measured:
    """Exactly the laws above, but that no prefill step takes less than `small_step_s`."""
    plan = Plan.up_to(context)
    found = Measured(
        device={"name": "card", "torch": "2", "cuda": "13", "memory_bytes": 140 * 10**9},
        attention="torch",
        attention_candidates={},
        page_copies="one call each",
        weight_bytes=16 * 10**9,
        activation_bytes=2 * 10**9,
        plan=plan,
        rates={"matmul_flops_per_s": 7e14, "hbm_copy_bytes_per_s": 4e12},
        clocks={"before": {"clocks.sm": "1980 MHz"}, "after": {}},
    )
    for new, context_ in plan.prefill:
        seconds = max(small_step_s, PREFILL.step_s(new, context_))
        found.prefill.append(Prefill(new, context_, timed(seconds)))
    for tokens in plan.prompts:
        found.prompts.append(
            Prompt(tokens, plan.chunk, timed(PREFILL.prompt_s(tokens, 0, plan.chunk)))
        )
    for batch, context_ in plan.decode:
        found.decode.append(Decode(batch, context_, timed(DECODE.seconds(batch, context_))))
    for block in BLOCKS:
        for kind in ("chunk", "page", "store"):
            for tokens in plan.loads:
                row = Load(kind, block, tokens, 131_072 * tokens, timed(LOAD.seconds(tokens)))
                found.loads.append(row)
            found.overlaps.append(Overlap(kind, block, 32_768, 0.08, 0.1, 0.5, 0.51))
    return found
