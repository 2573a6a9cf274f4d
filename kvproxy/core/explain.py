"""A decision in words a person can check: what was known, what each term cost."""

import orjson

from kvproxy.core.router import Placement


def describe(placement: Placement) -> bytes:
    """The compact JSON of the x-kvproxy-decision header: seconds rounded to 0.1 ms."""
    placing = placement.placing
    terms = {name: round(value, 4) for name, value in placing.score.terms().items()}
    remote = placing.remote
    return orjson.dumps(
        ({"kv_from": remote.replica.id, "kv_tokens": remote.tokens} if remote else {})
        | {
            "policy": placement.policy,
            "replica": placement.replica.id,
            "prompt_tokens": placing.prompt_tokens,
            "predicted_cached_tokens": placing.match.tokens,
            "predicted_tiers": {
                "hbm": placing.match.hbm,
                "dram": placing.match.dram,
                "disk": placing.match.disk,
            },
            "source": placing.match.source,
            "evidence": placing.identity.evidence,
            "queue_s": terms["queue_s"],
            "waited_s": round(placing.waited_s, 4),
            "terms": terms,
        }
    )
