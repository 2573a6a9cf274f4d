"""A prompt in the model of a replica's caches: what is held of it is pinned, the rest added."""

from kvproxy.core.echo_rate import EchoRate
from kvproxy.core.kept_answers import NO_REPEATS, Repeats, go_on, repeats, whole
from kvproxy.core.prefix_tree import PrefixTree, Run
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.types import Chain


def pin_prompt(
    ruler: Ruler, replica: Replica, model: str, chain: Chain, echo_rate: EchoRate
) -> tuple[Run, Repeats]:
    """The end to release, and the answer of the turn before that the prompt may go on with; it is
    the prompt's own from now on where engines find it again."""
    hbm, hashes, answer = replica.hbm, chain.hashes, NO_REPEATS
    end, held = hbm.pin(hashes)
    if held == len(hashes):
        return end, answer
    if held:
        start = whole(int(ruler.tokens_at(chain, held, model)), replica.block_size)
        answer = repeats(hbm, hashes[held - 1], start)
        if echo_rate.found_again(model):
            go_on(hbm, answer.prompt_hash)
    ends = ruler.token_ends(chain, held, model, end.end)
    return hbm.extend(end, hashes[held:], ends), answer


def write_through(
    ruler: Ruler, tier: PrefixTree, model: str, chain: Chain, now: float, *, echo_rate: EchoRate
) -> None:
    """Prefill stores what it computes, and what is found there is used again."""
    end, held = tier.pin(chain.hashes)
    if 0 < held < len(chain.hashes) and echo_rate.found_again(model):
        go_on(tier, chain.hashes[held - 1])
    ends = ruler.token_ends(chain, held, model, end.end)
    tier.release(tier.extend(end, chain.hashes[held:], ends), now)
