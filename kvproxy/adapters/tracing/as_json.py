"""OTLP in JSON: ids in hex, enums as numbers, 64-bit numbers as text."""

from collections.abc import Iterable
from typing import Any

import msgspec
import orjson

from kvproxy.adapters.tracing.outbox import Speaker, Taken, Told
from kvproxy.core.trace import Kind, Span, Value

CONTENT_TYPE = "application/json"
_KINDS = {Kind.INTERNAL: 1, Kind.SERVER: 2, Kind.CLIENT: 3}
_ERROR = 2
# Of `flags`: sampled, and that it is known whether the parent is another program's.
_SAMPLED, _HAS_REMOTE, _REMOTE = 0x001, 0x100, 0x200


class JsonBatch:
    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._spans: list[orjson.Fragment] = []

    def add(self, told: Told) -> None:
        epoch_ns = told.epoch_ns
        self._spans += [orjson.Fragment(orjson.dumps(_said(s, epoch_ns))) for s in told.spans]

    def body(self) -> bytes:
        scope = {"name": "kvproxy", "version": self._speaker.version}
        resource = {"attributes": _pairs(self._speaker.resource.items())}
        spans = [{"scope": scope, "spans": self._spans}]
        return orjson.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": spans}]})


class _Partial(msgspec.Struct, rename="camel"):
    rejected_spans: int | str = 0
    error_message: str = ""


class _Response(msgspec.Struct, rename="camel"):
    partial_success: _Partial = msgspec.field(default_factory=_Partial)


def taken(body: bytes) -> Taken:
    """What a collector says that answered 200."""
    try:
        partial = msgspec.json.decode(body or b"{}", type=_Response).partial_success
        refused = int(partial.rejected_spans)
    except (msgspec.DecodeError, ValueError):
        return Taken()
    return Taken(refused, partial.error_message if refused else "")


def _said(span: Span, epoch_ns: int) -> dict[str, Any]:
    attributes = _pairs(span.attributes.items())
    if span.error:
        attributes += _pairs([("error.type", span.error)])
    said: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_id,
        "traceState": span.state,
        "flags": _SAMPLED | _HAS_REMOTE | (_REMOTE if span.remote else 0),
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.began_ns(epoch_ns)),
        "endTimeUnixNano": str(span.ended_ns(epoch_ns)),
        "attributes": attributes,
        "events": [
            {"name": event.name, "timeUnixNano": str(event.at_ns(epoch_ns))}
            for event in span.events
        ],
    }
    if span.failed:
        said["status"] = {"code": _ERROR, "message": span.error}
    return said


def _pairs(pairs: Iterable[tuple[str, Value]]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in pairs]


def _value(value: Value) -> dict[str, Value]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"doubleValue": value}
