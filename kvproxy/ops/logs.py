"""Logs on standard error: text for people, JSON for machines, one line a request."""

import logging
import sys
from datetime import UTC, datetime

import orjson

from kvproxy.core.causes import sentences
from kvproxy.core.holdings import Outcome
from kvproxy.core.replica import Replica
from kvproxy.proxy import Record

access = logging.getLogger("kvproxy.access")
knowledge = logging.getLogger("kvproxy.knowledge")

# Of what a client may write as long as a head.
_PATH_MAX = 256


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname).1s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = getattr(record, "fields", {})
        pairs = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        return f"{super().format(record)} {pairs}".rstrip()


def set_up(level: str, style: str) -> None:
    """`style` auto: text on a terminal, JSON otherwise."""
    handler = logging.StreamHandler(sys.stderr)
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger("kvproxy")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def set_level(level: str) -> None:
    logging.getLogger("kvproxy").setLevel(level.upper())


def log_learned(record: Record) -> None:
    """What a request taught about the sources of knowledge, if it changes what is believed."""
    if record.learned is not None and record.placement is not None:
        log_outcome(record.placement.replica, record.learned)


def log_outcome(replica: Replica, outcome: Outcome) -> None:
    for line in sentences(replica, outcome):
        knowledge.warning(line)


def log_access(record: Record) -> None:
    """Identifiers of the request, never of the person or the prompt."""
    if not access.isEnabledFor(logging.INFO):
        return
    exchange, placement, usage = record.exchange, record.placement, record.usage
    fields = {
        "request_id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path[:_PATH_MAX],
        "status": record.status,
        "outcome": record.outcome,
        "key": record.caller.key.name if record.caller.key else None,
        "replica": placement.replica.id if placement else None,
        "evidence": record.identity.evidence if record.identity else None,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "predicted_cached": placement.predicted_cached_tokens
        if placement and record.turn
        else None,
        "cached": usage.cached_tokens if usage else None,
        "source": placement.placing.match.source if placement and record.turn else None,
        "lost": record.verdict.cause or None,
        "lost_tokens": record.verdict.lost_tokens or None,
        "ttft_s": None if record.ttft_s is None else round(record.ttft_s, 4),
        "waited_s": round(record.waited_s, 4) or None,
        "total_s": round(record.total_s, 4),
        "attempts": record.attempts,
        "continued": record.continued or None,
    }
    access.info("request", extra={"fields": fields})
