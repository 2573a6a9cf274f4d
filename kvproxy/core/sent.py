"""How much of a prompt a replica holds by what was sent there: what its cache's model says."""

from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Match
from kvproxy.core.types import Chain

# What LMCache stores and finds whole.
_CHUNK_TOKENS = 256
NOTHING_HELD = Match(0, 0, by_history=0)

# Matches by blocks, whether others part there, and block size: what many replicas have in common,
# as the text that every prompt begins with, is worked out once.
Same = dict[tuple[int, bool, int], Match]


def in_hbm(
    ruler: Ruler, replica: Replica, model: str, chain: Chain, prompt_tokens: int, *, same: Same
) -> Match:
    """`same` is of this prompt."""
    blocks, parts = replica.hbm.find(chain.hashes)
    if not blocks:
        return NOTHING_HELD
    key = (blocks, parts, replica.block_size)
    match = same.get(key)
    if match is None:
        tokens = ruler.tokens_held(chain, blocks, model, parts=parts)
        hbm = whole_blocks(int(tokens), prompt_tokens, replica.block_size)
        match = same[key] = Match(blocks, hbm, by_history=hbm)
    return match


def in_tiers(ruler: Ruler, replica: Replica, model: str, chain: Chain, prompt_tokens: int) -> Match:
    """In HBM, and behind that in a second tier where there is one."""
    match = in_hbm(ruler, replica, model, chain, prompt_tokens, same={})
    if replica.dram is None:
        return match
    stored = replica.dram.match(chain.hashes)
    if stored <= match.blocks:
        return match
    reach = whole_blocks(int(ruler.tokens_at(chain, stored, model)), prompt_tokens, _CHUNK_TOKENS)
    tokens = max(match.tokens, reach)
    dram = tokens - match.tokens
    return Match(stored if dram else match.blocks, tokens, dram=dram, by_history=tokens)


def whole_blocks(tokens: int, prompt_tokens: int, block_size: int) -> int:
    """Engines hit whole blocks and always compute the last prompt token."""
    most = prompt_tokens - 1 if prompt_tokens <= tokens else tokens
    return most // block_size * block_size if most > 0 else 0
