"""What a report says of where the held part of a prompt ends."""

from kvproxy.core.kept_answers import whole
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Match
from kvproxy.core.types import Chain

# Of what was held, by which a report may differ from what was predicted and be of the same blocks.
# Where chains part it is certain how many blocks were held, if not how many tokens; where one just
# ends, part of it may have been evicted unseen.
_NEAR_PARTING, _NEAR = 0.25, 0.02


def learn_end(
    ruler: Ruler, replica: Replica, chain: Chain, predicted: Match, *, cached: int, model: str
) -> None:
    """`replica` held `cached` tokens of a prompt, of which its history knew so many blocks."""
    blocks, size = predicted.blocks, replica.block_size
    parting = replica.hbm.parting(chain.hashes, blocks)
    near = max(2 * size, (_NEAR if parting is None else _NEAR_PARTING) * cached)
    if abs(cached - predicted.tokens) > near:
        return
    # Reported hits are whole engine blocks: the true end lies half a block on, on average.
    half = size / 2
    ruler.hit(chain, blocks, cached + half, half, model, parts=parting is not None)
    if parting is not None:
        # What follows has the block in which they part for itself.
        replica.hbm.place(parting, whole(int(ruler.tokens_at(chain, blocks, model)), size))
