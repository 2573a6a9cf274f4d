"""A decision in words a person can check: what was known, what each term cost.

Decisions are kept as they were made, and put into words when somebody asks.
"""

import orjson
from msgspec import Struct

from kvproxy.core.router import Placement
from kvproxy.core.score import Match, Score


class Decision(Struct, frozen=True, gc=False):
    """What is kept of a placement, without its chain."""

    policy: str
    replica: str
    prompt_tokens: int
    match: Match
    evidence: str
    score: Score
    waited_s: float
    kv_from: str = ""
    kv_tokens: int = 0


def decision(placement: Placement) -> Decision:
    placing = placement.placing
    remote = placing.remote
    return Decision(
        placement.policy,
        placing.replica.id,
        placing.prompt_tokens,
        placing.match,
        placing.identity.evidence,
        placing.score,
        placing.waited_s,
        remote.replica.id if remote is not None else "",
        remote.tokens if remote is not None else 0,
    )


def describe(placement: Placement) -> bytes:
    """The compact JSON of the x-kvproxy-decision header: seconds rounded to 0.1 ms."""
    return orjson.dumps(in_words(decision(placement)))


def in_words(kept: Decision) -> dict[str, object]:
    terms = {name: round(value, 4) for name, value in kept.score.terms().items()}
    match = kept.match
    remote = {"kv_from": kept.kv_from, "kv_tokens": kept.kv_tokens} if kept.kv_from else {}
    return remote | {
        "policy": kept.policy,
        "replica": kept.replica,
        "prompt_tokens": kept.prompt_tokens,
        "predicted_cached_tokens": match.tokens,
        "predicted_tiers": {"hbm": match.hbm, "dram": match.dram, "disk": match.disk},
        "source": match.source,
        "evidence": kept.evidence,
        "queue_s": terms["queue_s"],
        "waited_s": round(kept.waited_s, 4),
        "terms": terms,
    }
