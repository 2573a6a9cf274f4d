"""The shape of a set of traces: quantiles of sizes and times, sharing, context resets."""

from collections.abc import Sequence
from itertools import pairwise

from loadgen.prefix_tree import PrefixTree
from loadgen.traces.model import Trace

QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95, 1.0)
THINK_CAP_S = 600.0
# A turn that drops more than this share of the blocks before it has reset its context.
RESET_SHARE = 0.10


def inspect_traces(traces: Sequence[Trace]) -> dict[str, object]:
    """Counts, and under `quantiles` p5 … max of each measure (parent requests only)."""
    columns: dict[str, list[float]] = {}
    resets = sub_agents = 0
    for trace in traces:
        resets += _measure(trace, columns)
        sub_agents += len(trace.sub_agents)
    return {
        "traces": len(traces),
        "requests": sum(len(trace.turns) for trace in traces),
        "input_tokens": round(sum(columns["tokens in per trace"])),
        "sub_agents": sub_agents,
        "context_resets": resets,
        "quantiles": {name: quantiles(values) for name, values in columns.items()},
    }


def quantiles(values: Sequence[float]) -> list[float] | None:
    """The values at QUANTILES, each an observed one; None when there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in QUANTILES]


def _measure(trace: Trace, columns: dict[str, list[float]]) -> int:
    """Add one trace to the columns; returns its number of context resets."""
    turns = trace.turns

    def add(name: str, *values: float) -> None:
        columns.setdefault(name, []).extend(values)

    tree = PrefixTree([(turn.input_tokens, turn.blocks) for turn in turns], trace.block_size)
    # Tails have no id in the trace; the tree makes one up (negative) where nothing follows.
    unique = sum(sum(block >= 0 for block in branch.ids) for branch in tree.branches)
    sent = sum(len(turn.blocks) for turn in turns)
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
        add("infinite-cache hit per trace", 1 - unique / sent)
    resets = 0
    for before, turn in pairwise(turns):
        shared = turn.blocks.common_prefix(before.blocks)
        add("new tokens per turn", turn.input_tokens - shared * trace.block_size)
        resets += len(before.blocks) - shared > RESET_SHARE * len(before.blocks)
    return resets
