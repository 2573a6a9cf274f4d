"""What an answered turn teaches: token counts, a prefill rate, and what other proxies can use."""

from collections.abc import Callable

from kvproxy.core.placement import Placement, Placing
from kvproxy.core.ruler import Ruler
from kvproxy.core.types import Learned, Usage

Teach = Callable[[Learned], None]


def learn(ruler: Ruler, placement: Placement, usage: Usage, teach: Teach | None) -> None:
    """Before the claim is settled: what was found in the cache is looked at as it was."""
    placing, hold, replica = placement.placing, placement.hold, placement.replica
    chain, match, cached = placing.chain, placing.match, usage.cached_tokens
    ruler.learn(chain, len(chain.hashes), usage.prompt_tokens, placing.identity.model)
    if cached is None or placing.remote is not None:
        return
    if cached and match.blocks < len(chain.hashes) and _ended_there(placing, cached):
        # Reported hits are whole engine blocks: the true end lies half a block on, on average.
        half = replica.block_size / 2
        ruler.hit(chain, match.blocks, cached + half, half)
    miss, ttft_s = usage.prompt_tokens - cached, 0.0
    if hold.first_token_at is not None and not (match.dram or match.disk):
        ttft_s = hold.first_token_at - hold.at
        replica.rate.observe(miss, ttft_s, hold.alone, usage.prompt_tokens)
    if teach is not None and chain.hashes:
        clean_s = ttft_s if hold.alone else 0.0
        teach(Learned(replica.id, chain.end, usage.prompt_tokens, miss, clean_s))


def _ended_there(placing: Placing, cached: int) -> bool:
    """Whether the reported hit ended with the predicted blocks. Where chains part it is certain how
    many blocks were held, if not how many tokens; where one just ends, part of it may have been
    evicted unseen."""
    replica, match = placing.replica, placing.match
    if match.source != "history":
        return False
    off, least = abs(cached - match.tokens), 2 * replica.block_size
    if off <= max(least, 0.02 * cached):
        return True
    near = off <= max(least, 0.25 * cached)
    return near and replica.hbm.parts(placing.chain.hashes, match.blocks)
