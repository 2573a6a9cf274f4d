"""Whether a prompt had better be computed, or fetched, somewhere else than where it is answered.

Every candidate is scored a second time as if its prompt were computed on another replica, which
then owes what the prefill costs there, and the KV came over the wire. A short miss stays local by
itself: the wait for another queue and the wire cost more than it does. `pulls` is the same without
a computation: an idle replica takes a prefix from one that holds it and is busy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from kvproxy.core.disagg.connectors import Connector
from kvproxy.core.replica import Replica
from kvproxy.core.score import Asked, Match, Score, pushed_out_s, score


class Mode(StrEnum):
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Terms:
    """`min_tokens`: fewer missing ones are computed where they are missed, whatever the mode.
    `margin_s`: gain below which a request stays whole. `hand_on_tokens`: the second leg is told
    the prompt's tokens, so that it is rendered once."""

    connector: Connector
    mode: Mode = Mode.AUTO
    min_tokens: int = 2048
    margin_s: float = 0.1
    hand_on_tokens: bool = False


class Remote(NamedTuple):
    """Where KV comes from. `replica`, which holds `match` of the prompt, computes the rest in
    `prefill_s` seconds; or computes nothing and is only read, if it `pulls`. `tokens` travel."""

    replica: Replica
    match: Match
    prefill_s: float
    tokens: int
    pulls: bool


class Choice(NamedTuple):
    """Which candidate answers, what that costs, and where its KV comes from."""

    candidate: int
    score: Score
    remote: Remote | None


class _Offer(NamedTuple):
    """What a replica asks for its KV: seconds until it is there, and what that costs others."""

    remote: Remote
    ready_s: float
    delay_s: float
    eviction_s: float

    def rank(self) -> tuple[float, int]:
        """Soonest and least harmful first; of those that hold a prefix, the longest."""
        return (self.ready_s + self.delay_s + self.eviction_s, -self.remote.tokens)


def choose(
    asked: Asked,
    *,
    candidates: Sequence[Replica],
    matches: Sequence[Match],
    prefillers: Sequence[tuple[Replica, Match]],
    whole: Choice,
    terms: Terms,
    tok_s: float,
) -> Choice:
    """`whole` is the best plain placement; it is returned unless something else is better.

    `prefillers` are replicas that may compute for others and what each holds of the prompt, `tok_s`
    tokens that travel a second. At most one offer is asked for a candidate, so this is linear.
    """
    if terms.mode is Mode.NEVER:
        return whole
    pulls = terms.connector is Connector.OFFLOADING
    asking = [_offer(asked, replica, match, pulls=pulls) for replica, match in prefillers]
    offers = sorted([offer for offer in asking if offer is not None], key=_Offer.rank)[:2]
    best: Choice | None = None
    for index, (replica, match) in enumerate(zip(candidates, matches, strict=True)):
        offer = next((each for each in offers if each.remote.replica is not replica), None)
        if (
            offer is None
            or replica.peer is None
            or asked.prompt_tokens - match.tokens < terms.min_tokens
        ):
            continue
        found = _with_offer(asked, replica, match, offer, tok_s)
        if found is not None and (best is None or found[0].total_s < best.score.total_s):
            best = Choice(index, *found)
    if best is None:
        return whole
    forced = terms.mode is Mode.ALWAYS and not pulls
    forced = forced and asked.prompt_tokens - matches[whole.candidate].tokens >= terms.min_tokens
    if forced or best.score.total_s + terms.margin_s < whole.score.total_s:
        return best
    return whole


def _offer(asked: Asked, replica: Replica, match: Match, *, pulls: bool) -> _Offer | None:
    if pulls:
        remote = Remote(replica, match, 0.0, match.tokens, pulls=True)
        return _Offer(remote, 0.0, 0.0, 0.0) if match.tokens else None
    miss = max(1, asked.prompt_tokens - match.tokens)
    prefill_s = replica.rate.prefill_s(miss, asked.prompt_tokens)
    line = asked.lines.get(replica.id)
    ahead_s = line.ahead_s(prefill_s) if line is not None else 0.0
    queue_s = replica.load.queue_s(asked.now) + ahead_s
    ready_s = queue_s + prefill_s + replica.rate.base_s
    delay_s = asked.weights.delay * prefill_s * replica.load.decoding
    excess = replica.hbm.size + miss - replica.hbm_tokens
    eviction_s = 0.0
    if excess > 0:
        eviction_s = pushed_out_s(replica, min(miss, excess), asked.now, asked.victim_worth)
    remote = Remote(replica, match, prefill_s, asked.prompt_tokens, pulls=False)
    return _Offer(remote, ready_s, delay_s, eviction_s)


def _with_offer(
    asked: Asked, replica: Replica, match: Match, offer: _Offer, tok_s: float
) -> tuple[Score, Remote] | None:
    """The terms of `replica` if it takes the offer; None if it gains nothing from it."""
    remote = offer.remote
    travels = remote.tokens - match.tokens
    if travels <= 0:
        return None
    local = score(asked, replica, match)
    missed = max(1, asked.prompt_tokens - remote.tokens)
    prefill_s = replica.rate.prefill_s(missed, asked.prompt_tokens)
    # The wait for the other replica and that for this one's own queue pass side by side.
    load_s = max(0.0, offer.ready_s + travels / tok_s - local.queue_s)
    taken = local._replace(
        prefill_s=prefill_s,
        load_s=load_s,
        delay_s=asked.weights.delay * prefill_s * replica.load.decoding + offer.delay_s,
        eviction_s=local.eviction_s + offer.eviction_s,
    )
    return taken, remote._replace(tokens=travels)
