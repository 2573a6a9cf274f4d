"""What a run would ask for, before it asks anybody: the same conversations in virtual time."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from rich.table import Table

from kvproxy.core.policies import PolicyName
from loadgen.run_values import RunSettings
from loadgen.simulate.bounds import bounds
from loadgen.simulate.run import INFINITE_TOKENS, Arm, Setup, simulate
from loadgen.simulate.world import Sample
from loadgen.traces.model import Trace

PERIODS = 20


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas whose prefill the forecast assumes, and `hbm_tokens` of cache in each, if known."""

    replicas: int = 1
    hbm_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """What is asked from `t_s` on for `lasts_s`, in engine seconds. `working_set_tokens` are the
    contexts, at its end, of conversations between first request and last answer."""

    t_s: float
    lasts_s: float
    requests: int
    prompt_tokens: int
    uncached_tokens: int
    output_tokens: int
    working_set_tokens: int

    def per_s(self) -> dict[str, float]:
        counts = ("requests", "prompt_tokens", "uncached_tokens", "output_tokens")
        return {f"{name}_per_s": getattr(self, name) / self.lasts_s for name in counts}


def forecast(settings: RunSettings, traces: Sequence[Trace], fleet: Fleet) -> dict[str, object]:
    """The record that run.json would begin with, and `forecast`. ValueError for runs whose course
    depends on the endpoint or that the model does not play."""
    _refuse(settings, traces)
    setup = _setup(settings, traces, fleet)
    block = setup.limits.block_size
    free = simulate(traces, setup, Arm(PolicyName.SECONDS, holds_back=False))
    samples = sorted(free.samples, key=lambda sample: sample.asked_at)[: settings.requests]
    if not samples:
        raise ValueError("nothing would be answered: the run is too short")
    per_replica = fleet.hbm_tokens
    largest = max(sample.prompt_tokens for sample in samples)
    if per_replica is not None and per_replica < largest:
        raise ValueError(f"--hbm-tokens {per_replica} cannot hold a prompt of {largest} tokens")
    capacity = fleet.replicas * per_replica if per_replica is not None else INFINITE_TOKENS
    limits = bounds(samples, capacity, block)
    found = periods(samples, block)
    figures: dict[str, object] = {
        "requests": len(samples),
        "conversations": len({sample.conversation for sample in samples}),
        "duration_s": max(sample.finished_at for sample in samples),
        "prompt_tokens": sum(sample.prompt_tokens for sample in samples),
        "uncached_tokens": sum(sample.prompt_tokens - sample.cached for sample in samples),
        "output_tokens": sum(sample.output_tokens for sample in samples),
        "working_set_tokens_max": max(period.working_set_tokens for period in found),
        "hit_rate_bound": limits.infinite,
        "hit_rate_pooled_lru": limits.pooled_lru if per_replica is not None else None,
        "fleet": asdict(fleet),
        "rates": asdict(setup.rates),
        "periods": [asdict(period) | period.per_s() for period in found],
    }
    return {"settings": settings.public() | {"traces": len(traces)}, "forecast": figures}


def _refuse(settings: RunSettings, traces: Sequence[Trace]) -> None:
    timing = settings.timing
    refused = {
        "--ramp": settings.ramp is not None,
        "--arrivals": settings.arrivals is not None,
        "--timing other than think": timing.strategy != "think",
        "--advance": timing.advance != (0.0, 0.0),
        "--requests without --duration": settings.requests and settings.duration_s is None,
        "traces that share block ids": any(trace.shared_ids for trace in traces),
        "traces with blocks of several sizes": len({trace.block_size for trace in traces}) != 1,
    }
    named = [name for name, is_so in refused.items() if is_so]
    if named:
        raise ValueError(f"--dry-run does not go with {', '.join(named)}")


def _setup(settings: RunSettings, traces: Sequence[Trace], fleet: Fleet) -> Setup:
    scale, lasts_s = settings.timing.time_scale, settings.duration_s
    setup = Setup(
        conversations=settings.users,
        replicas=fleet.replicas,
        fluid=True,
        duration_s=lasts_s * scale if lasts_s is not None else None,
        timing=replace(settings.timing, time_scale=1.0),
        warm_prefix_pct=settings.warm_prefix_pct,
        output_tokens_max=settings.output_tokens_max,
        seed=settings.seed,
    )
    limits = replace(setup.limits, block_size=traces[0].block_size)
    return replace(setup, limits=limits).without_limit()


def periods(ordered: Sequence[Sample], block_size: int) -> list[Period]:
    """PERIODS equal parts of the time from 0 to the last answer."""
    lasts_s = max(sample.finished_at for sample in ordered) / PERIODS
    parts: list[list[Sample]] = [[] for _ in range(PERIODS)]
    last_answer: dict[str, float] = {}
    for sample in ordered:
        parts[min(PERIODS - 1, int(sample.asked_at / lasts_s))].append(sample)
        last_answer[sample.conversation] = sample.finished_at
    context: dict[str, Sample] = {}
    found = []
    for number, part in enumerate(parts):
        end_s = (number + 1) * lasts_s
        context |= {sample.conversation: sample for sample in part}
        context = {name: one for name, one in context.items() if last_answer[name] > end_s}
        found.append(
            Period(
                number * lasts_s,
                lasts_s,
                len(part),
                sum(sample.prompt_tokens for sample in part),
                sum(sample.prompt_tokens - sample.cached for sample in part),
                sum(sample.output_tokens for sample in part),
                _held(list(context.values()), block_size),
            )
        )
    return found


def _held(contexts: Sequence[Sample], block_size: int) -> int:
    """Tokens of these contexts, the blocks that all share counted once for each kind of them."""
    warm: dict[bool, int] = {}
    held = 0
    for sample in contexts:
        shared = sample.prompt.warm_blocks * block_size
        held += sample.prompt_tokens - shared
        kind = "/" in sample.conversation
        warm[kind] = max(warm.get(kind, 0), shared)
    return held + sum(warm.values())


def forecast_table(record: dict[str, object]) -> Table:
    figures = record["forecast"]
    assert isinstance(figures, dict)
    pooled = figures["hit_rate_pooled_lru"]
    title = (
        f"Forecast: {figures['requests']:,} requests, {figures['prompt_tokens']:,} prompt tokens, "
        f"{figures['uncached_tokens']:,} uncached, {figures['output_tokens']:,} output"
    )
    caption = f"hit rate bound: infinite cache {figures['hit_rate_bound']:.1%}"
    if pooled is not None:
        caption += f", pooled LRU {pooled:.1%}"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for name in ("from s", "req/s", "prompt tok/s", "uncached tok/s", "output tok/s"):
        table.add_column(name, justify="right")
    table.add_column("working set", justify="right")
    for period in figures["periods"]:
        table.add_row(
            f"{period['t_s']:.0f}",
            f"{period['requests_per_s']:.2f}",
            f"{period['prompt_tokens_per_s']:,.0f}",
            f"{period['uncached_tokens_per_s']:,.0f}",
            f"{period['output_tokens_per_s']:,.0f}",
            f"{period['working_set_tokens']:,}",
        )
    return table
