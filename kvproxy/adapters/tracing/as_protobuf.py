"""OTLP in protobuf. Needs the extra `kvproxy[otel]`."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from kvproxy.adapters.tracing.outbox import Speaker, Taken, Told
from kvproxy.adapters.tracing.schema import (
    SPAN_KIND_CLIENT,
    SPAN_KIND_INTERNAL,
    SPAN_KIND_SERVER,
    STATUS_CODE_ERROR,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from kvproxy.core.trace import Kind, Span, Value

CONTENT_TYPE = "application/x-protobuf"
_KINDS = {
    Kind.SERVER: SPAN_KIND_SERVER,
    Kind.CLIENT: SPAN_KIND_CLIENT,
    Kind.INTERNAL: SPAN_KIND_INTERNAL,
}
# Of `Span.flags`: sampled, and that it is known whether the parent is another program's.
_SAMPLED, _HAS_REMOTE, _REMOTE = 0x001, 0x100, 0x200


class ProtobufBatch:
    def __init__(self, speaker: Speaker) -> None:
        self._request = ExportTraceServiceRequest()
        of_resource = self._request.resource_spans.add()
        _add(of_resource.resource.attributes, speaker.resource.items())
        of_scope = of_resource.scope_spans.add()
        of_scope.scope.name, of_scope.scope.version = "kvproxy", speaker.version
        self._spans = of_scope.spans

    def add(self, told: Told) -> None:
        for span in told.spans:
            self._add(span, told.epoch_ns)

    def body(self) -> bytes:
        written: bytes = self._request.SerializeToString()
        return written

    def _add(self, span: Span, epoch_ns: int) -> None:
        message = self._spans.add(
            trace_id=bytes.fromhex(span.trace_id),
            span_id=bytes.fromhex(span.span_id),
            parent_span_id=bytes.fromhex(span.parent_id),
            trace_state=span.state,
            flags=_SAMPLED | _HAS_REMOTE | (_REMOTE if span.remote else 0),
            name=span.name,
            kind=_KINDS[span.kind],
            start_time_unix_nano=span.began_ns(epoch_ns),
            end_time_unix_nano=span.ended_ns(epoch_ns),
        )
        _add(message.attributes, span.attributes.items())
        if span.error:
            _add(message.attributes, [("error.type", span.error)])
        for event in span.events:
            message.events.add(name=event.name, time_unix_nano=event.at_ns(epoch_ns))
        if span.failed:
            message.status.code, message.status.message = STATUS_CODE_ERROR, span.error


def taken(body: bytes) -> Taken:
    """What a collector says that answered 200."""
    response = ExportTraceServiceResponse()
    try:
        response.ParseFromString(body)
    except DecodeError:
        return Taken()
    partial = response.partial_success
    return Taken(partial.rejected_spans, partial.error_message if partial.rejected_spans else "")


def _add(attributes: Any, pairs: Iterable[tuple[str, Value]]) -> None:
    for key, value in pairs:
        pair = attributes.add()
        pair.key = key
        if isinstance(value, str):
            pair.value.string_value = value
        elif isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = value
        else:
            pair.value.double_value = value
