"""The spans of one request, from its record and what was noted on the way.

Attributes with names of others follow OpenTelemetry's conventions for HTTP and generative AI; what
is kvproxy's own begins with `kvproxy.`. Figures of usage are on the leg that answered alone, so
that whoever adds them up counts them once. Neither prompts nor keys nor names of conversations are
told, and of a model that nobody serves, its name is not.
"""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from kvproxy.core.clients import family
from kvproxy.core.dialects import dialect_of
from kvproxy.core.errors import ERRORS
from kvproxy.core.placement import Placement
from kvproxy.core.trace import Event, Kind, Leg, Span, Trace, Value, Wait
from kvproxy.proxy import Record

_PATH_MAX = 256
# Outcomes that say no more than the status does.
_WELL = ("ok", "refused")
# By path: the operation, and whose API it is.
_OPERATIONS = {
    "/v1/chat/completions": ("chat", "openai"),
    "/v1/responses": ("chat", "openai"),
    "/v1/completions": ("text_completion", "openai"),
    "/v1/embeddings": ("embeddings", "openai"),
    "/v1/messages": ("chat", "anthropic"),
}

Attributes = dict[str, Value]


def spans_of(
    record: Record, trace: Trace, new_span_id: Callable[[], str], digest: Callable[[str], str]
) -> list[Span]:
    """The request's own span first. `digest` makes a name that tells nothing of one that does."""
    over = record.began + record.total_s
    spans = [_whole(record, trace, over, digest)]

    def step(name: str, began: float, ended: float, attributes: Attributes, error: str) -> None:
        told = error if error != "client_gone" else ""
        span = Span(
            name,
            Kind.INTERNAL,
            trace.trace_id,
            new_span_id(),
            trace.span_id,
            began,
            ended,
            attributes,
            _gone(error, ended),
            told,
            bool(told) and not _is_clients_fault(told),
            trace.state,
        )
        spans.append(span)

    error = "" if record.outcome in _WELL else record.outcome
    waits, accepted = trace.waits, trace.accepted
    if accepted is None and waits:
        accepted = waits[0].began
    if accepted is None:
        step("accept", record.began, over, {}, error)
    else:
        step("accept", record.began, accepted, {}, "")
    if accepted is not None and trace.identified is not None:
        read = error if record.turn is None else ""
        step("identify", accepted, trace.identified, _identified(record), read)
    for wait in waits:
        ended = over if wait.ended is None else wait.ended
        step("admit", wait.began, ended, _admitted(wait), wait.error)
    answering = next((leg for leg in reversed(trace.legs) if leg.answers), None)
    sent_before = 0
    for leg in trace.legs:
        spans.append(_leg(record, trace, leg, sent_before, over, last=leg is answering))
        sent_before += leg.answers
    if trace.learning is not None and trace.learned is not None:
        step("learn", trace.learning, trace.learned, _learned(record), "")
    return spans


def _whole(record: Record, trace: Trace, over: float, digest: Callable[[str], str]) -> Span:
    exchange, status = record.exchange, record.status
    known = dialect_of(exchange.method, exchange.path) is not None
    error = record.outcome if record.outcome not in (*_WELL, "client_gone") else ""
    if not error and status >= 400:
        error = str(status)
    attributes: Attributes = {
        "http.request.method": exchange.method,
        "url.path": exchange.path[:_PATH_MAX],
        "kvproxy.request_id": exchange.request_id,
        "kvproxy.outcome": record.outcome,
        "kvproxy.attempts": record.attempts,
        "kvproxy.client": family(exchange.header.get("user-agent", "")),
    }
    if known:
        attributes["http.route"] = exchange.path
    if status:
        attributes["http.response.status_code"] = status
    attributes |= _model(record)
    if record.identity is not None:
        attributes["kvproxy.evidence"] = record.identity.evidence
        if record.identity.session:
            attributes["gen_ai.conversation.id"] = digest(record.identity.session)
    if record.placement is not None:
        attributes["kvproxy.replica"] = record.placement.replica.id
    if record.turn is not None:
        attributes["kvproxy.queue_seconds"] = round(record.waited_s, 6)
    if record.ttft_s is not None:
        attributes["kvproxy.ttft_seconds"] = round(record.ttft_s, 6)
    if record.continued:
        attributes["kvproxy.continued"] = record.continued
    if trace.untold:
        attributes["kvproxy.untold_steps"] = trace.untold
    parent = trace.parent
    return Span(
        f"{exchange.method} {exchange.path}" if known else exchange.method,
        Kind.SERVER,
        trace.trace_id,
        trace.span_id,
        parent.span_id if parent is not None else "",
        record.began,
        over,
        attributes,
        _first_token(record) + _gone(record.outcome, over),
        error,
        bool(error) and not 400 <= status < 500,
        trace.state,
        parent is not None,
    )


def _leg(
    record: Record, trace: Trace, leg: Leg, sent_before: int, over: float, *, last: bool
) -> Span:
    replica, exchange = leg.placement.replica, record.exchange
    ended = over if leg.ended is None else leg.ended
    error = leg.error if leg.error != "client_gone" else ""
    if not error and leg.status >= 400:
        error = str(leg.status)
    place = urlsplit(replica.url)
    attributes: Attributes = {
        "http.request.method": exchange.method,
        "url.path": exchange.path[:_PATH_MAX],
        "server.address": place.hostname or "",
        "server.port": place.port or (443 if place.scheme == "https" else 80),
        "kvproxy.replica": replica.id,
        "kvproxy.leg": "answer" if leg.answers else "prefill",
    }
    if sent_before:
        attributes["http.request.resend_count"] = sent_before
    if leg.status:
        attributes["http.response.status_code"] = leg.status
    attributes |= _model(record)
    events: tuple[Event, ...] = ()
    if last:
        events = _first_token(record)
        attributes |= _used(record, leg)
    return Span(
        "forward",
        Kind.CLIENT,
        trace.trace_id,
        leg.span_id,
        trace.span_id,
        leg.began,
        ended,
        attributes,
        events + _gone(leg.error, ended),
        error,
        bool(error),
        trace.state,
    )


def _model(record: Record) -> Attributes:
    operation = _OPERATIONS.get(record.exchange.path)
    if operation is None:
        return {}
    name, provider = operation
    told: Attributes = {"gen_ai.operation.name": name, "gen_ai.provider.name": provider}
    turn, placement = record.turn, record.placement
    served = turn.model if turn is not None else record.passing_model
    if placement is not None and served in placement.replica.models:
        told["gen_ai.request.model"] = turn.sent or served if turn is not None else served
    if turn is not None:
        told["gen_ai.request.stream"] = turn.stream
    return told


def _used(record: Record, leg: Leg) -> Attributes:
    """What is known of the answer."""
    if record.exchange.path not in _OPERATIONS:
        return {}
    told: Attributes = {}
    if record.turn is not None and record.turn.model in leg.placement.replica.models:
        told["gen_ai.response.model"] = record.turn.model
    if record.ttft_s is not None:
        first_s = record.began + record.ttft_s - leg.began
        told["gen_ai.response.time_to_first_chunk"] = round(max(0.0, first_s), 6)
    if record.usage is not None:
        usage = record.usage
        told["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        told["gen_ai.usage.output_tokens"] = usage.completion_tokens
        if usage.cached_tokens is not None:
            told["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        if usage.created_tokens is not None:
            told["gen_ai.usage.cache_creation.input_tokens"] = usage.created_tokens
    return told


def _identified(record: Record) -> Attributes:
    turn = record.turn
    if turn is None:
        return {}
    told: Attributes = {
        "kvproxy.dialect": turn.dialect.name,
        "kvproxy.body_bytes": len(record.body),
        "kvproxy.blocks": len(turn.chain),
        "kvproxy.splices": len(turn.splices),
    }
    if record.identity is not None:
        told["kvproxy.evidence"] = record.identity.evidence
    return told


def _admitted(wait: Wait) -> Attributes:
    told: Attributes = {}
    if wait.after:
        told["kvproxy.reason"] = wait.after
    if wait.placement is not None:
        told |= dict(_decided(wait.placement))
    return told


def _decided(placement: Placement) -> Iterator[tuple[str, Value]]:
    placing = placement.placing
    match = placing.match
    yield "kvproxy.replica", placing.replica.id
    yield "kvproxy.policy", str(placement.policy)
    yield "kvproxy.queue_seconds", round(placing.waited_s, 6)
    if not placing.chain:
        return
    yield "kvproxy.source", match.source
    yield "kvproxy.estimated_tokens", placing.prompt_tokens
    yield "kvproxy.predicted_cached_tokens", match.tokens
    for tier, tokens in (("hbm", match.hbm), ("dram", match.dram), ("disk", match.disk)):
        if tokens:
            yield f"kvproxy.predicted_{tier}_tokens", tokens
    if placing.remote is not None:
        yield "kvproxy.kv_from", placing.remote.replica.id
    for name, seconds in placing.score.terms().items():
        if seconds:
            yield f"kvproxy.terms.{name}", round(seconds, 6)


def _learned(record: Record) -> Attributes:
    """What was predicted beside what came."""
    told: Attributes = {}
    if record.placement is not None and record.turn is not None:
        told["kvproxy.predicted_cached_tokens"] = record.placement.predicted_cached_tokens
    if record.usage is not None and record.usage.cached_tokens is not None:
        told["kvproxy.reported_cached_tokens"] = record.usage.cached_tokens
    if record.verdict.cause:
        told["kvproxy.prefix_break"] = record.verdict.cause
        told["kvproxy.prefix_lost_tokens"] = record.verdict.lost_tokens
    return told


def _is_clients_fault(code: str) -> bool:
    """Then it is told, but is no failure of those who serve."""
    return code in ERRORS and 400 <= ERRORS[code].status < 500


def _first_token(record: Record) -> tuple[Event, ...]:
    if record.ttft_s is None or record.turn is None:
        return ()
    return (Event("first_token", record.began + record.ttft_s),)


def _gone(outcome: str, at: float) -> tuple[Event, ...]:
    return (Event("client_gone", at),) if outcome == "client_gone" else ()
