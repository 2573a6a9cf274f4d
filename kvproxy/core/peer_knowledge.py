"""What the router takes over from other proxies of its fleet."""

from collections.abc import Mapping

from kvproxy.core.items import Kind, kind_of
from kvproxy.core.kept_prompts import write_through
from kvproxy.core.pick import rendezvous
from kvproxy.core.presumed_rates import presume_rates
from kvproxy.core.replica import Replica
from kvproxy.core.router import Router, session_key
from kvproxy.core.types import Chain, Identity, Learned

# As many as an answer may report: counts are kept in 32 bits.
_TOKENS_MAX = 10**9


def heard(router: Router, replica: Replica, model: str, chain: Chain, now: float) -> None:
    """Another proxy sent `chain` to `replica`."""
    echo_rate = router.holdings.echo_rate
    for tree in (replica.hbm, replica.dram):
        if tree is not None and tree.match(chain.hashes) < len(chain):
            write_through(router.ruler, tree, model, chain, now, echo_rate=echo_rate)


def taught(router: Router, replicas: Mapping[str, Replica], lesson: Learned) -> None:
    """Another proxy learned this; whatever is impossible in it is left out."""
    if not 0 < lesson.prompt_tokens < _TOKENS_MAX:
        return
    router.ruler.told(lesson.end, lesson.prompt_tokens)
    replica = replicas.get(lesson.replica)
    if replica is not None and 0 < lesson.miss_tokens <= lesson.prompt_tokens:
        replica.rate.observe(lesson.miss_tokens, lesson.ttft_s, True, lesson.prompt_tokens)
        if replica.rate.news:
            replica.rate.news = False
            presume_rates(router.replicas)


def presume(router: Router, identity: Identity, chain: Chain, now: float) -> None:
    """Nobody can say where the conversation lives: it does where every proxy would guess so, and
    what it said before its latest message was sent there."""
    there = router.usable(identity.model)
    if there:
        replica = rendezvous(session_key(identity, chain), there)
        router.affinity.bind(router.key_of(identity), replica.id, 0, now)
        heard(router, replica, identity.model, chain.until(_blocks_before(chain)), now)


def _blocks_before(chain: Chain) -> int:
    """Blocks up to the last answer in the prompt; 0 where there is none."""
    kinds = [kind_of(item) for item in chain.items]
    if Kind.ASSISTANT not in kinds:
        return 0
    last = len(kinds) - 1 - kinds[::-1].index(Kind.ASSISTANT)
    return chain.segment_ends[last - 1] if last else 0
