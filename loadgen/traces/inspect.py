"""The shape of a set of traces: quantiles of sizes and times, sharing, context resets."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from loadgen.traces.model import Trace, Turn

QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95, 1.0)
THINK_CAP_S = 600.0
# A turn that drops more than this share of the blocks before it has reset its context.
RESET_SHARE = 0.10
CHANGES = ("shrinking", "identical", "leaving_2_blocks_or_more", "returning_to_an_older_branch")


@dataclass(slots=True)
class Figures:
    """Counts by name, and the values of each measure of one trace or of many."""

    counts: Counter[str] = field(default_factory=Counter)
    columns: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, *values: float) -> None:
        self.columns.setdefault(name, []).extend(values)


def inspect_traces(traces: Sequence[Trace]) -> dict[str, object]:
    """Counts, and under `quantiles` p5 … max of each measure. Parent requests only, but for what
    names sub-agents and for unique blocks. `infinite_cache_hit` is over the blocks of all; traces
    with common ids hit what any of them sent before."""
    figures = Figures()
    common: set[int] = set()
    for trace in sorted(traces, key=lambda trace: trace.start_s):
        measure(trace, figures, common if trace.shared_ids else set())
    counts = figures.counts
    sent = counts.pop("blocks_sent")
    reused = counts.pop("blocks_reused")
    return {
        "traces": len(traces),
        **counts,
        "infinite_cache_hit": reused / sent if sent else None,
        "models": dict(Counter(model for trace in traces for model in trace.models).most_common()),
        "quantiles": {name: quantiles(values) for name, values in figures.columns.items()},
    }


def quantiles(values: Sequence[float]) -> list[float] | None:
    """The values at QUANTILES, each an observed one; None when there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in QUANTILES]


def measure(trace: Trace, figures: Figures, known: set[int]) -> None:
    """Add one trace to the figures, and its blocks to those that are `known`."""
    turns, counts, add = trace.turns, figures.counts, figures.add
    inner = [turn for agent in trace.sub_agents for turn in agent.turns]
    seen = _measure_changes(turns, trace.block_size, figures)
    everything = seen.union(*(turn.blocks for turn in inner))
    fresh, unique = len(seen - known), len(everything - known)
    known |= everything
    sent = sum(len(turn.blocks) for turn in turns)
    counts["requests"] += len(turns)
    counts["input_tokens"] += sum(turn.input_tokens for turn in turns)
    counts["output_tokens"] += sum(turn.output_tokens for turn in turns)
    counts["unique_blocks"] += unique
    counts["sub_agents"] += len(trace.sub_agents)
    counts["sub_agent_requests"] += len(inner)
    counts["blocks_sent"] += sent
    counts["blocks_reused"] += sent - fresh
    counts["without_api_time"] += sum(turn.api_s is None for turn in turns)
    counts["without_output"] += sum(not turn.output_tokens for turn in turns)
    add("requests per trace", len(turns))
    add("first prompt tokens", turns[0].input_tokens)
    add("largest prompt tokens", max(turn.input_tokens for turn in turns))
    add("tokens in per trace", sum(turn.input_tokens for turn in turns))
    add("unique blocks per trace", unique)
    add("input tokens", *(turn.input_tokens for turn in turns))
    add("output tokens", *(turn.output_tokens for turn in turns))
    add("think s", *(turn.think_s for turn in turns[1:]))
    add("api s", *(turn.api_s for turn in turns if turn.api_s is not None))
    add("recorded span s", turns[-1].t_s - turns[0].t_s)
    add("think-only length s", sum(min(turn.think_s, THINK_CAP_S) for turn in turns[1:]))
    add("tools + system tokens", trace.fixed_tokens)
    if sent:
        add("infinite-cache hit per trace", 1 - fresh / sent)


def _measure_changes(turns: Sequence[Turn], size: int, figures: Figures) -> set[int]:
    """What each turn keeps of the one before it; returns the blocks of all turns."""
    counts, resets = figures.counts, 0
    seen = set(turns[0].blocks)
    for name in CHANGES:
        counts[name] += 0
    for before, turn in pairwise(turns):
        shared = turn.blocks.common_prefix(before.blocks)
        left = len(before.blocks) - shared
        fresh = list(turn.blocks.suffix(shared))
        counts["shrinking"] += turn.input_tokens < before.input_tokens
        counts["identical"] += before.blocks == turn.blocks
        counts["leaving_2_blocks_or_more"] += left >= 2
        # An id stands for all that is before it, so one known id is a known prefix.
        counts["returning_to_an_older_branch"] += bool(fresh) and fresh[0] in seen
        seen.update(fresh)
        figures.add("new tokens per turn", turn.input_tokens - shared * size)
        if left > RESET_SHARE * len(before.blocks):
            resets += 1
            figures.add("tokens kept by a reset", shared * size)
            figures.add("tokens after a reset", turn.input_tokens)
            figures.add("share dropped by a reset", left / len(before.blocks))
    counts["context_resets"] += resets
    counts["traces_with_resets"] += resets > 0
    return seen
