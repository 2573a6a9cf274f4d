"""A prompt in the model of a replica's caches: what is held of it is pinned, the rest added."""

from array import array

from msgspec import Struct

from kvproxy.core.echo_rate import EchoRate
from kvproxy.core.kept_answers import NO_REPEATS, Repeats, go_on, kept_behind, repeats, whole
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.runs import Run
from kvproxy.core.types import Chain

# Where so many blocks end, or fewer, is estimated at once: keeping their chain takes more room.
_FEW = 64


class LateEnds(Struct, gc=False):
    """Where the blocks of `chain` end behind the first `held`, as far as is known by then."""

    ruler: Ruler
    chain: Chain
    held: int
    model: str

    def ends(self, blocks: int, least: int) -> "array[int]":
        return self.ruler.token_ends(self.chain, self.held, self.model, least)[:blocks]

    def reach(self, blocks: int, end: int, position: int) -> tuple[int, int]:
        held, chain, model = self.held, self.chain, self.model
        whole = held + blocks
        reached, at = self.ruler.reach(chain, held, whole, model, end=end, position=position)
        return reached - held, at


def pin_prompt(
    ruler: Ruler, replica: Replica, model: str, chain: Chain, echo_rate: EchoRate
) -> tuple[Run, Repeats]:
    """The end to release, and the answer of the turn before that the prompt may go on with; it is
    the prompt's own from now on where engines find it again."""
    hbm, hashes, answer = replica.hbm, chain.hashes, NO_REPEATS
    end, held = hbm.pin(hashes)
    if 0 < held < len(hashes):
        before = hashes[held - 1]
        if kept_behind(hbm, before):
            start = whole(int(ruler.tokens_at(chain, held, model)), replica.block_size)
            answer = repeats(hbm, before, start)
        if echo_rate.found_again(model):
            go_on(hbm, before)
    return hold_on(ruler, hbm, end, chain, held, model=model), answer


def hold_on(
    ruler: Ruler, tree: PrefixTree, end: Run, chain: Chain, held: int, *, model: str
) -> Run:
    """Add what is not among the first `held` blocks behind `end`, which is pinned; the new end."""
    blocks = len(chain.hashes)
    if held == blocks:
        return end
    hashes = chain.hashes[held:]
    if blocks - held <= _FEW and end.later is None:
        return tree.extend(end, hashes, ruler.token_ends(chain, held, model, end.end))
    position = max(end.end, int(ruler.tokens_at(chain, blocks, model) + 0.5))
    return tree.grow(end, hashes, position, LateEnds(ruler, chain, held, model))


def write_through(
    ruler: Ruler, tier: PrefixTree, model: str, chain: Chain, now: float, *, echo_rate: EchoRate
) -> None:
    """Prefill stores what it computes, and what is found there is used again."""
    end, held = tier.pin(chain.hashes)
    if 0 < held < len(chain.hashes) and echo_rate.found_again(model):
        go_on(tier, chain.hashes[held - 1])
    tier.release(hold_on(ruler, tier, end, chain, held, model=model), now)
