"""A minute on a device: what is there, whether kernels and copies are right, how fast they are."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import torch

from loadgen.calibration import attention
from loadgen.calibration.decoder import Decoder
from loadgen.calibration.device import clocks, describe, matmul_flops_per_s
from loadgen.calibration.host_tier import LAYOUTS, HostTier
from loadgen.calibration.model_shape import ModelShape
from loadgen.calibration.plan import BLOCKS
from loadgen.calibration.records import Options
from loadgen.calibration.run import DTYPES, fuser
from loadgen.calibration.timing import Stopwatch, captured, own_stream

_TOKENS = 4096
# Rounding moves a few tokens to other experts; what is unrelated is off by more than one.
_TOLERANCE, _TOLERANCE_EXPERTS = 0.1, 0.5


def smoke(shape: ModelShape, options: Options, tell: Callable[[str], None]) -> bool:
    """Whether all that was checked is right. Two layers stand for the model."""
    watch = Stopwatch(options.device, 3)
    tell(f"device {describe(options.device)}")
    tell(f"clocks {clocks(options.device)}")
    tell(f"transformers {'present' if find_spec('transformers') else 'absent'}, not needed")
    with torch.inference_mode(), own_stream(options.device):
        flops_per_s = matmul_flops_per_s(options.device, DTYPES[options.dtype], watch)
        tell(f"matmul {flops_per_s / 1e12:.0f} TFLOP/s, clocks {clocks(options.device)}")
        sizes = (shape.heads, shape.kv_heads, shape.head_dim)
        name, notes = attention.choose(
            sizes, DTYPES[options.dtype], options.device, lambda work: watch.time(work).median_s
        )
        tell(f"attention {name}: {notes}")
        right = _decoder_is_right(replace(shape, layers=2), options, name, watch, tell)
        copied = [_copies_are_right(block, options, watch, tell) for block in BLOCKS]
    return right and all(copied)


def _decoder_is_right(
    shape: ModelShape, options: Options, name: str, watch: Stopwatch, tell: Callable[[str], None]
) -> bool:
    """The same tokens in one step by the formula, in chunks by the chosen kernel, fused, with the
    last one decoded, and from a graph."""
    make = partial(
        Decoder, shape, _TOKENS, dtype=DTYPES[options.dtype], device=options.device, seed=1
    )
    plain, quick = (
        make(attend=attention.naive),
        make(attend=attention.CANDIDATES[name], fuse=fuser(options)),
    )
    ids = torch.randint(shape.vocab, (300,), device=options.device)
    expected = plain.prefill(ids, 0).float()
    quick.prefill_in_chunks(ids, 128)
    answers = {"chunks": quick.prefill(ids[256:], 256), "decode": quick.decode(ids[299:], 299)[0]}
    work = captured(partial(quick.prefill, ids[256:], 256), options.device)
    work()
    tell(f"graph of a prefill: {1e3 * watch.time(work).median_s:.3f} ms for two layers")
    for what, answer in answers.items():
        error = float((answer.float() - expected).norm() / expected.norm())
        tell(f"decoder, {what}: relative error {error:.1e}")
        if not error < (_TOLERANCE_EXPERTS if shape.experts else _TOLERANCE):
            return False
    return True


def _copies_are_right(
    block: int, options: Options, watch: Stopwatch, tell: Callable[[str], None]
) -> bool:
    tokens = 32_768 if watch.on_gpu else 1024
    tier = HostTier(8, 2048, tokens=tokens, block=block, device=options.device)
    right = True
    for layout in LAYOUTS:
        tier.pages.zero_()
        taken_s = watch.time(partial(tier.load, tier.tokens, layout)).median_s
        right &= tier.loaded(tier.tokens)
        rate = tier.tokens * tier.token_bytes / taken_s / 1e9
        tell(f"{layout} of {block}: {rate:.1f} GB/s, {tier.page_copies}, right {right}")
    return right
