"""Runs the plan on a device: one function for each kind of measurement, each giving rows."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from loadgen.calibration.decoder import Decoder
from loadgen.calibration.host_tier import LAYOUTS, HostTier
from loadgen.calibration.plan import BLOCKS, Plan
from loadgen.calibration.records import Decode, Load, Overlap, Prefill, Prompt, Timed
from loadgen.calibration.timing import Span, Stopwatch, captured

Tell = Callable[[str], None]
# Steps of so few tokens are launched as graphs by engines.
_GRAPH_TOKENS_MAX = 512


def prefills(decoder: Decoder, plan: Plan, watch: Stopwatch) -> Iterator[Prefill]:
    for new, context in dict.fromkeys(plan.prefill):
        ids = _ids(decoder, new)
        work = partial(decoder.prefill, ids, context)
        if new <= _GRAPH_TOKENS_MAX:
            yield Prefill(new, context, watch.time(captured(work, decoder.device)))
        else:
            yield Prefill(new, context, watch.time(work))


def prompts(decoder: Decoder, plan: Plan, watch: Stopwatch) -> Iterator[Prompt]:
    for tokens in plan.prompts:
        work = partial(decoder.prefill_in_chunks, _ids(decoder, tokens), plan.chunk)
        # Every step of it was warmed up by its own measurement.
        yield Prompt(tokens, plan.chunk, watch.time(work, warmups=0))


def decodes(decoder: Decoder, plan: Plan, watch: Stopwatch) -> Iterator[Decode]:
    for batch, context in plan.decode:
        work = partial(decoder.decode, _ids(decoder, batch), context)
        yield Decode(batch, context, watch.time(captured(work, decoder.device)))


def loads(tier: HostTier, plan: Plan, watch: Stopwatch) -> Iterator[Load]:
    for layout in LAYOUTS:
        for tokens in plan.loads:
            copied = tokens * tier.token_bytes
            time = watch.time(partial(tier.load, tokens, layout))
            yield Load(layout, tier.block, tokens, copied, time)
    tokens = plan.loads[-1]
    stored = watch.time(partial(tier.store, tokens))
    yield Load("store", tier.block, tokens, tokens * tier.token_bytes, stored)


def overlaps(decoder: Decoder, tier: HostTier, plan: Plan, repeats: int) -> Iterator[Overlap]:
    """On a GPU; nothing on a CPU, which does one after the other.

    The prefill is one graph, so that launching it does not hold up the load's launches; the load
    has a stream of higher priority, or its small kernels would wait for the prefill's large ones.
    """
    if decoder.device.type != "cuda":
        return
    new, context = plan.overlap
    prefill = captured(partial(decoder.prefill, _ids(decoder, new), context), decoder.device)
    tokens = plan.loads[-1]
    alone = _medians([_beside(prefill, None) for _ in range(repeats)])
    kinds = [("store", tier.store)]
    kinds += [(layout, partial(tier.load, layout=layout)) for layout in LAYOUTS]
    for kind, move in kinds:
        both = _medians([_beside(prefill, partial(move, tokens)) for _ in range(repeats)])
        moved = _medians([_beside(None, partial(move, tokens)) for _ in range(repeats)])
        yield Overlap(kind, tier.block, tokens, moved[1], both[1], alone[0], both[0])


def hbm_copy(decoder: Decoder, watch: Stopwatch) -> tuple[int, Timed]:
    """Bytes read plus bytes written, and the time, of copying one layer's cache."""
    source = decoder.kv[0]
    target = torch.empty_like(source)
    time = watch.time(partial(target.copy_, source))
    return 2 * source.numel() * source.element_size(), time


def tiers(decoder: Decoder, plan: Plan, element_bytes: int) -> Iterator[HostTier]:
    """One for each size of block; the one before must be dropped first, they are large."""
    shape = decoder.shape
    row_bytes = shape.kv_heads * shape.head_dim * element_bytes
    for block in BLOCKS:
        yield HostTier(
            shape.layers, row_bytes, tokens=plan.host_tokens, block=block, device=decoder.device
        )


def _beside(
    prefill: Callable[[], object] | None, load: Callable[[], object] | None
) -> tuple[float, float]:
    """Seconds of a prefill and of a load started with it, 0 for the one that is None."""
    stream = torch.cuda.Stream(priority=-1)
    torch.cuda.synchronize()
    computing, loading = Span(), Span()
    if prefill is not None:
        with computing:
            prefill()
    if load is not None:
        with torch.cuda.stream(stream), loading:
            load()
    torch.cuda.synchronize()
    return (
        computing.seconds() if prefill is not None else 0.0,
        loading.seconds() if load is not None else 0.0,
    )


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    first, second = (sorted(values) for values in zip(*pairs, strict=True))
    return first[len(first) // 2], second[len(second) // 2]


def _ids(decoder: Decoder, count: int) -> Tensor:
    return torch.randint(decoder.shape.vocab, (count,), device=decoder.device)
