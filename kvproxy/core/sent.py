"""How much of a prompt a replica holds by what was sent there: what its cache's model says."""

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from kvproxy.core.kept_answers import kept_behind, whole
from kvproxy.core.loadable import Told
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Match
from kvproxy.core.token_chain import Anchor
from kvproxy.core.types import Chain

if TYPE_CHECKING:
    from array import array

# What LMCache stores and finds whole.
_CHUNK_TOKENS = 256
NOTHING_HELD = Match(0, 0, by_history=0)


class Known(NamedTuple):
    """The deepest anchor of a prompt, and the token blocks up to it and of the answer behind.

    `ends` has the number of blocks that the replica looked up last had of them, if not all: mostly
    those of the text that many prompts begin with, so the next is likely to have as many.
    """

    anchor: Anchor
    blocks: "array[int]"
    ends: list[int]


class Prompt(Struct, frozen=True):
    """A prompt that is looked for in caches, and all that is the same whichever is asked.

    `repeats`: an answer that it repeats is found again. `known` and `told`: what announcements and
    LMCache's coordinator say of it. `same`: matches by blocks, whether others part there, block
    size and answer behind; what many replicas have in common is worked out once.
    """

    model: str
    chain: Chain
    tokens: int
    repeats: bool = False
    known: Known | None = None
    told: Told | None = None
    same: dict[tuple[int, bool, int, int], Match] = field(default_factory=dict)


def in_hbm(ruler: Ruler, replica: Replica, prompt: Prompt) -> Match:
    chain, hashes = prompt.chain, prompt.chain.hashes
    blocks, parts = replica.hbm.find(hashes)
    if not blocks:
        return NOTHING_HELD
    size, answer = replica.block_size, 0
    if prompt.repeats and blocks < len(hashes):
        answer = kept_behind(replica.hbm, hashes[blocks - 1])
    key = (blocks, parts, size, answer)
    match = prompt.same.get(key)
    if match is None:
        tokens = int(ruler.tokens_held(chain, blocks, prompt.model, parts=parts))
        # The answer begins in the block in which the prompt before ended.
        held = whole(tokens, size) + answer if answer else tokens
        hbm = whole_blocks(held, prompt.tokens, size)
        match = prompt.same[key] = Match(blocks, hbm, by_history=hbm)
    return match


def in_tiers(ruler: Ruler, replica: Replica, prompt: Prompt) -> Match:
    """In HBM, and behind that in a second tier where there is one."""
    match, chain = in_hbm(ruler, replica, prompt), prompt.chain
    if replica.dram is None:
        return match
    hashes = chain.hashes
    stored, answer = replica.dram.match(hashes), 0
    if prompt.repeats and 0 < stored < len(hashes):
        answer = kept_behind(replica.dram, hashes[stored - 1])
    if stored < match.blocks or (stored == match.blocks and not answer):
        return match
    held = int(ruler.tokens_at(chain, stored, prompt.model))
    if answer:
        held = whole(held, replica.block_size) + answer
    tokens = max(match.tokens, whole_blocks(held, prompt.tokens, _CHUNK_TOKENS))
    dram = tokens - match.tokens
    return Match(stored if dram else match.blocks, tokens, dram=dram, by_history=tokens)


def whole_blocks(tokens: int, prompt_tokens: int, block_size: int) -> int:
    """Engines hit whole blocks and always compute the last prompt token."""
    most = prompt_tokens - 1 if prompt_tokens <= tokens else tokens
    return most // block_size * block_size if most > 0 else 0
