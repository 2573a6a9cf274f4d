"""One calibration: the model built, everything measured, nothing interpreted yet."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch

from loadgen.calibration import attention, measure
from loadgen.calibration.decoder import Decoder
from loadgen.calibration.device import clocks, describe, matmul_flops_per_s
from loadgen.calibration.model_shape import ModelShape
from loadgen.calibration.plan import Plan
from loadgen.calibration.records import KV_BYTES, Measured, Options
from loadgen.calibration.timing import Stopwatch, own_stream

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
Row = TypeVar("Row")


def calibrate(shape: ModelShape, options: Options, tell: Callable[[str], None]) -> Measured:
    """Takes minutes and most of the device's memory. `tell` hears every row as it is measured."""
    with torch.inference_mode(), own_stream(options.device):
        plan = Plan.up_to(options.max_context)
        watch = Stopwatch(options.device, options.repeats)
        found, decoder = _build(shape, options, plan, watch)
        tell(f"device {found.device}")
        tell(f"attention {found.attention}: {found.attention_candidates}")
        tell(f"built: {found.weight_bytes / 1e9:.1f} GB of weights")
        keep = partial(_keep, tell)
        found.clocks["before"] = clocks(options.device)
        keep(found.prefill, measure.prefills(decoder, plan, watch))
        found.clocks["after prefill"] = clocks(options.device)
        if watch.on_gpu:
            kept = torch.cuda.memory_allocated()
            found.activation_bytes = torch.cuda.max_memory_allocated() - kept
        keep(found.decode, measure.decodes(decoder, plan, watch))
        found.clocks["after decode"] = clocks(options.device)
        copied, time = measure.hbm_copy(decoder, watch)
        found.rates["hbm_copy_bytes_per_s"] = copied / time.median_s
        for tier in measure.tiers(decoder, plan, KV_BYTES[options.kv_dtype]):
            found.page_copies = tier.page_copies
            keep(found.loads, measure.loads(tier, plan, watch))
            keep(found.overlaps, measure.overlaps(decoder, tier, plan, options.repeats))
            del tier
        found.clocks["after loads"] = clocks(options.device)
        keep(found.prompts, measure.prompts(decoder, plan, watch))
        found.clocks["after prompts"] = clocks(options.device)
    return found


def _build(
    shape: ModelShape, options: Options, plan: Plan, watch: Stopwatch
) -> tuple[Measured, Decoder]:
    dtype = DTYPES[options.dtype]
    flops_per_s = matmul_flops_per_s(options.device, dtype, watch)
    sizes = (shape.heads, shape.kv_heads, shape.head_dim)
    name, notes = attention.choose(
        sizes, dtype, options.device, lambda work: watch.time(work).median_s
    )
    decoder = Decoder(
        shape,
        plan.cache_tokens,
        dtype=dtype,
        device=options.device,
        seed=options.seed,
        attend=attention.CANDIDATES[name],
        fuse=fuser(options),
    )
    found = Measured(
        device=describe(options.device),
        attention=name,
        attention_candidates=notes,
        page_copies="",
        weight_bytes=decoder.weight_bytes(),
        activation_bytes=0,
        plan=plan,
        rates={"matmul_flops_per_s": flops_per_s},
    )
    return found, decoder


def fuser(options: Options) -> Callable[[Any], Any]:
    """Engines fuse element-wise chains; left apart they are a tenth of a prefill."""
    if options.fuse and torch.device(options.device).type == "cuda":
        return partial(torch.compile, dynamic=True)
    return lambda function: function


def _keep(tell: Callable[[str], None], into: list[Row], rows: Any) -> None:
    for row in rows:
        into.append(row)
        tell(str(row))
