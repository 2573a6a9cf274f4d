"""Explanations of past requests, kept as JSON within a bound: no text of prompts is in them."""

import orjson

from kvproxy.core.explain import describe
from kvproxy.core.lru import ByteLru
from kvproxy.proxy import Record


class Explanations:
    def __init__(self, max_bytes: int) -> None:
        self._kept: ByteLru[str, bytes] = ByteLru(max_bytes)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, record: Record) -> None:
        if record.turn is not None:
            told = orjson.dumps(explanation(record), option=orjson.OPT_INDENT_2)
            self._kept.put(record.exchange.request_id, told, len(told))

    def get(self, request_id: str) -> bytes | None:
        return self._kept.get(request_id)


def explanation(record: Record) -> dict[str, object]:
    """What is known of one answered prompt; places are JSON pointers into its body."""
    assert record.turn is not None
    turn, usage, step = record.turn, record.usage, record.step
    decision = orjson.loads(describe(record.placement)) if record.placement else None
    return {
        "request_id": record.exchange.request_id,
        "dialect": turn.dialect.name,
        "outcome": record.outcome,
        "prefix": _prefix(record),
        "session": {
            "evidence": record.identity.evidence if record.identity else "none",
            "thread": step.thread.number if step else None,
            "parent": step.thread.parent if step else None,
            "turn": step.thread.turns if step else None,
        },
        "body": {
            "blocks": len(turn.chain),
            "resumed_at": turn.resumed_at,
            "splices": [
                {"kind": each.kind, "start": each.start, "end": each.end, "bytes": len(each.new)}
                for each in turn.splices
            ],
            "not_applied": [each.kind for each in turn.not_applied],
        },
        "decision": decision,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
        }
        if usage
        else None,
    }


def _prefix(record: Record) -> dict[str, object]:
    """What became of the prompt before this one; `break` is null where it goes on."""
    verdict, step = record.verdict, record.step
    place = verdict.place
    return {
        "went_on_as": step.broke.cause if step and step.broke else None,
        "break": verdict.cause or None,
        "pointer": place.pointer if place else None,
        "offset": place.offset if place else None,
        "before_tokens": verdict.before_tokens,
        "kept_tokens": verdict.kept_tokens,
        "lost_tokens": verdict.lost_tokens,
    }
