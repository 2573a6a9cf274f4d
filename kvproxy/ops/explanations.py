"""Explanations of past requests, kept within a bound: no text of prompts is in them.

What is kept are the few values that an explanation is made of; it is made when somebody asks.
"""

from collections.abc import Sequence

import orjson
from msgspec import Struct

from kvproxy.core.diagnosis import Verdict
from kvproxy.core.explain import Decision, decision, in_words
from kvproxy.core.lru import ByteLru
from kvproxy.core.types import Usage
from kvproxy.proxy import Record

# Of one request with its id and place in the table, and of each splice: measured.
_ENTRY_BYTES, _SPLICE_BYTES = 1200, 150


class Kept(Struct, frozen=True, gc=False):
    """Of one answered prompt. `thread` is (number, parent, turns), `splices` are (kind, start,
    end, bytes)."""

    request_id: str
    dialect: str
    outcome: str
    evidence: str
    thread: tuple[int, int | None, int] | None
    went_on_as: str | None
    verdict: Verdict
    blocks: int
    resumed_at: int
    splices: Sequence[tuple[str, int, int, int]]
    not_applied: Sequence[str]
    decision: Decision | None
    usage: Usage | None


class Explanations:
    def __init__(self, max_bytes: int) -> None:
        self._kept: ByteLru[str, Kept] = ByteLru(max_bytes)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, record: Record) -> None:
        if record.turn is not None:
            kept = keep(record)
            changes = len(kept.splices) + len(kept.not_applied)
            self._kept.put(kept.request_id, kept, _ENTRY_BYTES + _SPLICE_BYTES * changes)

    def get(self, request_id: str) -> bytes | None:
        kept = self._kept.get(request_id)
        return None if kept is None else orjson.dumps(in_full(kept), option=orjson.OPT_INDENT_2)


def keep(record: Record) -> Kept:
    turn, step, identity, placement = record.turn, record.step, record.identity, record.placement
    assert turn is not None
    thread = step.thread if step is not None else None
    return Kept(
        record.exchange.request_id,
        turn.dialect.name,
        record.outcome,
        identity.evidence if identity is not None else "none",
        (thread.number, thread.parent, thread.turns) if thread is not None else None,
        step.broke.cause if step is not None and step.broke is not None else None,
        record.verdict,
        len(turn.chain.hashes),
        turn.resumed_at,
        [(s.kind, s.start, s.end, len(s.new)) for s in turn.splices] if turn.splices else (),
        [splice.kind for splice in turn.not_applied] if turn.not_applied else (),
        decision(placement) if placement is not None else None,
        record.usage,
    )


def in_full(kept: Kept) -> dict[str, object]:
    """What is known of one answered prompt; places are JSON pointers into its body."""
    number, parent, turns = kept.thread or (None, None, None)
    usage = kept.usage
    return {
        "request_id": kept.request_id,
        "dialect": kept.dialect,
        "outcome": kept.outcome,
        "prefix": _prefix(kept),
        "session": {
            "evidence": kept.evidence,
            "thread": number,
            "parent": parent,
            "turn": turns,
        },
        "body": {
            "blocks": kept.blocks,
            "resumed_at": kept.resumed_at,
            "splices": [
                {"kind": kind, "start": start, "end": end, "bytes": size}
                for kind, start, end, size in kept.splices
            ],
            "not_applied": list(kept.not_applied),
        },
        "decision": in_words(kept.decision) if kept.decision else None,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
        }
        if usage
        else None,
    }


def _prefix(kept: Kept) -> dict[str, object]:
    """What became of the prompt before this one; `break` is null where it goes on."""
    verdict = kept.verdict
    place = verdict.place
    return {
        "went_on_as": kept.went_on_as,
        "break": verdict.cause or None,
        "pointer": place.pointer if place else None,
        "offset": place.offset if place else None,
        "before_tokens": verdict.before_tokens,
        "kept_tokens": verdict.kept_tokens,
        "lost_tokens": verdict.lost_tokens,
    }
