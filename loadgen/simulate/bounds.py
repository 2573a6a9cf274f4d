"""What no cache of a size could beat on an order of requests, to print beside what a policy got.

All three are hit rates over prompt tokens, in whole blocks, the last token never counted. A prompt
that is larger than all of the memory cannot be served from it: it hits nothing and is not kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kvproxy.core.prefix_tree import PrefixTree
from loadgen.simulate.prompts import Measures
from loadgen.simulate.world import Sample


@dataclass(frozen=True, slots=True)
class Bounds:
    """`infinite`: no limit; `pooled_lru`: one LRU of all replicas' memory; `offline_min`: that
    memory with foresight."""

    infinite: float
    pooled_lru: float
    offline_min: float


def bounds(samples: Sequence[Sample], capacity_tokens: int, block_size: int) -> Bounds:
    """`samples` in the order asked, with their hashes; `capacity_tokens` of all replicas."""
    ordered = sorted(samples, key=lambda sample: sample.asked_at)
    total = sum(sample.prompt_tokens for sample in ordered)
    fitting = [sample for sample in ordered if sample.prompt_tokens <= capacity_tokens]
    infinite = _lru(ordered, total + 1, block_size)
    return Bounds(
        infinite=infinite / total,
        pooled_lru=_lru(fitting, capacity_tokens, block_size) / total,
        # Somebody has to be the first to compute what all have.
        offline_min=min(infinite, _foresight(fitting, capacity_tokens, block_size)) / total,
    )


def _countable(sample: Sample, blocks: int, block_size: int) -> int:
    return min(blocks, (sample.prompt_tokens - 1) // block_size) * block_size


def _lru(ordered: Sequence[Sample], capacity_tokens: int, block_size: int) -> int:
    measures = Measures(block_size)
    # The tree's unit is what chains are measured in: bytes at four a token.
    tree = PrefixTree(min(capacity_tokens * 4, 2**62))
    hits = 0
    for sample in ordered:
        ends = measures.of(len(sample.prompt.hashes))
        end, held = tree.pin(sample.prompt.hashes)
        tree.release(tree.extend(end, sample.prompt.hashes[held:], ends[held:]))
        hits += _countable(sample, held, block_size)
    return hits


def _foresight(ordered: Sequence[Sample], capacity_tokens: int, block_size: int) -> int:
    """Belady's MIN by conversation: all cached blocks of one have the same next use, so the tail
    of the conversation that asks last goes first. Blocks that its next turn drops go at once, and
    what others have too (`warm_blocks`) is always there and takes no room: nothing beats this."""
    capacity = capacity_tokens // block_size
    upcoming = _next_turns(ordered)
    cached: dict[str, int] = {}
    next_use: dict[str, int] = {}
    used = hits = 0
    for index, sample in enumerate(ordered):
        name = sample.conversation
        held = cached.pop(name, 0)
        used -= held
        following = upcoming[index]
        hits += _countable(sample, sample.prompt.warm_blocks + held, block_size)
        if following is None:
            continue
        after = ordered[following].prompt
        reused = sample.prompt.shared(after) - after.warm_blocks
        if reused <= 0:
            continue
        cached[name], next_use[name] = reused, following
        used += reused
        while used > capacity:
            last = max(cached, key=next_use.__getitem__)
            cut = min(cached[last], used - capacity)
            cached[last] -= cut
            used -= cut
            if not cached[last]:
                del cached[last]
    return hits


def _next_turns(ordered: Sequence[Sample]) -> list[int | None]:
    later: dict[str, int] = {}
    upcoming: list[int | None] = [None] * len(ordered)
    for index in range(len(ordered) - 1, -1, -1):
        upcoming[index] = later.get(ordered[index].conversation)
        later[ordered[index].conversation] = index
    return upcoming
