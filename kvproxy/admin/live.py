"""What `/admin/` and `kvproxy top` show: the state of this moment, as one JSON page.

Figures come from what is counted anyway. Single decisions are kept only while somebody looks, so
that nobody looking costs a comparison a request.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from kvproxy.adapters.http1.listener import Page
from kvproxy.admin.conversations import Conversations
from kvproxy.core.admission import Admission
from kvproxy.core.explain import describe
from kvproxy.core.regime import regime_of
from kvproxy.core.replica import Replica
from kvproxy.core.router import Router
from kvproxy.ops.metrics import Metrics
from kvproxy.proxy import Record

# So long after the last look, decisions are no longer kept.
WATCHED_S = 30.0
_DECISIONS = 60
# Times to the first token that quantiles are taken over.
_TTFTS = 500

Listing = Callable[[], list[dict[str, object]]]


class Seen(NamedTuple):
    """A decision and what came of it; `placed` is the JSON of the x-kvproxy-decision header."""

    at: float
    request_id: str
    placed: bytes
    ttft_s: float | None
    prompt_tokens: int | None
    cached_tokens: int | None
    lost: str


class Live:
    """`clock` is the router's; `wall` tells the time of day. `listing` is of the replicas."""

    def __init__(
        self,
        router: Router,
        admission: Admission,
        metrics: Metrics,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._router = router
        self._admission = admission
        self._metrics = metrics
        self._clock = clock
        self._wall = wall
        self.conversations = Conversations(router)
        self._seen: deque[Seen] = deque(maxlen=_DECISIONS)
        self._ttfts: deque[float] = deque(maxlen=_TTFTS)
        self._watched_until = 0.0
        self.listing: Listing = list

    def add(self, record: Record) -> None:
        """A request has ended. Nothing is kept while nobody looks."""
        if record.began > self._watched_until or record.placement is None or record.turn is None:
            return
        usage = record.usage
        if record.ttft_s is not None and record.turn.stream:
            self._ttfts.append(record.ttft_s)
        seen = Seen(
            self._wall(),
            record.exchange.request_id,
            describe(record.placement),
            record.ttft_s,
            usage.prompt_tokens if usage else None,
            usage.cached_tokens if usage else None,
            record.verdict.cause,
        )
        self._seen.append(seen)

    def told(self) -> bytes:
        """What other processes show of requests that ended in this one; looking keeps it up."""
        self._watched_until = self._clock() + WATCHED_S
        return orjson.dumps([[_decision(seen) for seen in self._seen], list(self._ttfts)])

    def page_of(self, told: Sequence[bytes]) -> Page:
        """The page, with what others told of requests that ended in them."""
        state = self._state(self._clock())
        several = [orjson.loads(each) for each in told]
        ended = [decision for decisions, _ in several for decision in decisions]
        ended.sort(key=lambda decision: -decision["at"])
        state["decisions"] = ended[:_DECISIONS]
        state["ttft"] = _quantiles(sorted(ttft for _, ttfts in several for ttft in ttfts))
        return Page(orjson.dumps(state, option=orjson.OPT_NON_STR_KEYS))

    async def page(self, _query: str) -> Page:
        """GET /admin/live"""
        now = self._clock()
        self._watched_until = now + WATCHED_S
        return Page(orjson.dumps(self._state(now), option=orjson.OPT_NON_STR_KEYS))

    def _state(self, now: float) -> dict[str, object]:
        by_id = {str(row["id"]): row for row in self.listing()}
        return {
            "at": self._wall(),
            "policy": self._router.policy,
            "totals": self._metrics.totals(),
            "queue_length": self._admission.length,
            "ttft": _quantiles(sorted(self._ttfts)),
            "outage": _outage(self._router.replicas),
            "regime": regime_of(self._router, now).as_json(),
            "replicas": [
                by_id.get(replica.id, {"id": replica.id}) | _replica(replica, now)
                for replica in self._router.replicas
            ],
            "sessions": self.conversations.rows(now),
            "session_count": len(self._router.affinity),
            "decisions": [_decision(seen) for seen in reversed(self._seen)],
        }


def _outage(replicas: Sequence[Replica]) -> str:
    """Why requests cannot be served, before anything else that could be said; empty: they can."""
    if not replicas:
        return "No replica is known: every request gets 503. See the log of what should find them."
    if not any(replica.up for replica in replicas):
        return (
            f"None of {len(replicas)} replicas takes work: requests get 503, or go to those that "
            "look ill. kvproxy doctor says why."
        )
    return ""


def _replica(replica: Replica, now: float) -> dict[str, object]:
    dram = replica.dram
    return {
        "queue_s": round(replica.load.queue_s(now), 3),
        "running": replica.running,
        "waiting": replica.waiting,
        "events": replica.kv_events,
        "hbm_tokens": replica.hbm_tokens,
        "held_tokens": replica.hbm.size,
        "dram_tokens": dram.capacity if dram else 0,
        "dram_held_tokens": dram.size if dram else 0,
        "evicted_tokens": replica.hbm.evicted,
        "prefill_tok_s": round(1 / replica.rate.s_per_tok),
    }


def _decision(seen: Seen) -> dict[str, object]:
    placed: dict[str, object] = orjson.loads(seen.placed)
    return placed | {
        "at": seen.at,
        "request_id": seen.request_id,
        "ttft_s": seen.ttft_s,
        "prompt_tokens": seen.prompt_tokens or placed["prompt_tokens"],
        "cached_tokens": seen.cached_tokens,
        "break": seen.lost,
    }


def _quantiles(sorted_s: list[float]) -> dict[str, float | int | None]:
    """Of the requests that ended while somebody looked."""
    if not sorted_s:
        return {"count": 0, "p50_s": None, "p95_s": None}
    last = len(sorted_s) - 1
    return {
        "count": len(sorted_s),
        "p50_s": sorted_s[round(last * 0.5)],
        "p95_s": sorted_s[round(last * 0.95)],
    }
