"""How much of a prompt a replica holds by what was sent there: what its cache's model says."""

from kvproxy.core.echo_rate import EchoRate
from kvproxy.core.kept_answers import kept_behind, whole
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Match
from kvproxy.core.types import Chain

# What LMCache stores and finds whole.
_CHUNK_TOKENS = 256
NOTHING_HELD = Match(0, 0, by_history=0)

# Matches by blocks, whether others part there, block size and answer behind: what many replicas
# have in common, as the text that every prompt begins with, is worked out once.
Same = dict[tuple[int, bool, int, int], Match]


def in_hbm(
    ruler: Ruler,
    replica: Replica,
    model: str,
    chain: Chain,
    prompt_tokens: int,
    *,
    echo_rate: EchoRate,
    same: Same,
) -> Match:
    """`echo_rate` tells whether an answer that the prompt repeats is found again. `same` is of this
    prompt."""
    hashes, size = chain.hashes, replica.block_size
    blocks, parts = replica.hbm.find(hashes)
    if not blocks:
        return NOTHING_HELD
    answer = 0
    if blocks < len(hashes) and echo_rate.found_again(model):
        answer = kept_behind(replica.hbm, hashes[blocks - 1])
    key = (blocks, parts, size, answer)
    match = same.get(key)
    if match is None:
        tokens = int(ruler.tokens_held(chain, blocks, model, parts=parts))
        # The answer begins in the block in which the prompt before ended.
        held = whole(tokens, size) + answer if answer else tokens
        hbm = whole_blocks(held, prompt_tokens, size)
        match = same[key] = Match(blocks, hbm, by_history=hbm)
    return match


def in_tiers(
    ruler: Ruler,
    replica: Replica,
    model: str,
    chain: Chain,
    prompt_tokens: int,
    *,
    echo_rate: EchoRate,
) -> Match:
    """In HBM, and behind that in a second tier where there is one."""
    match = in_hbm(ruler, replica, model, chain, prompt_tokens, echo_rate=echo_rate, same={})
    if replica.dram is None:
        return match
    hashes = chain.hashes
    stored, answer = replica.dram.match(hashes), 0
    if 0 < stored < len(hashes) and echo_rate.found_again(model):
        answer = kept_behind(replica.dram, hashes[stored - 1])
    if stored < match.blocks or (stored == match.blocks and not answer):
        return match
    held = int(ruler.tokens_at(chain, stored, model))
    if answer:
        held = whole(held, replica.block_size) + answer
    reach = whole_blocks(held, prompt_tokens, _CHUNK_TOKENS)
    tokens = max(match.tokens, reach)
    dram = tokens - match.tokens
    return Match(stored if dram else match.blocks, tokens, dram=dram, by_history=tokens)


def whole_blocks(tokens: int, prompt_tokens: int, block_size: int) -> int:
    """Engines hit whole blocks and always compute the last prompt token."""
    most = prompt_tokens - 1 if prompt_tokens <= tokens else tokens
    return most // block_size * block_size if most > 0 else 0
