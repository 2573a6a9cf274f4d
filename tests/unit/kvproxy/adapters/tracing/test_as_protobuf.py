"""Spans in protobuf; `test_as_json` holds the other spelling to this one."""

from typing import Any

from kvproxy.adapters.tracing.as_protobuf import ProtobufBatch, taken
from kvproxy.adapters.tracing.outbox import Speaker, Taken, Told
from kvproxy.adapters.tracing.schema import (
    SPAN_KIND_SERVER,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from kvproxy.core.trace import Event, Kind, Span

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
EPOCH_NS = 10**18
SPEAKER = Speaker({"service.name": "edge", "process.pid": 7}, "1.2")
WHOLE = Span(
    "POST /x",
    Kind.SERVER,
    TRACE,
    SPAN,
    PARENT,
    1.5,
    2.25,
    {"a": "b\u00e4", "n": -1, "f": 0.5, "t": True},
    (Event("first_token", 2.0),),
    error="upstream_broke",
    failed=True,
    state="v=1",
    remote=True,
)
BARE = Span("accept", Kind.INTERNAL, TRACE, "1" * 16, "", 2.0, 1.0, {}, error="400")


def written(*spans: Span) -> Any:
    batch = ProtobufBatch(SPEAKER)
    for span in spans:
        batch.add(Told([span], EPOCH_NS))
    return ExportTraceServiceRequest.FromString(batch.body())


def test_all_of_a_span_arrives() -> None:
    (of_resource,) = written(WHOLE).resource_spans
    (of_scope,) = of_resource.scope_spans
    (span,) = of_scope.spans
    assert {pair.key for pair in of_resource.resource.attributes} == {"service.name", "process.pid"}
    assert (of_scope.scope.name, of_scope.scope.version) == ("kvproxy", "1.2")
    assert (span.trace_id.hex(), span.span_id.hex()) == (TRACE, SPAN)
    assert (span.parent_span_id.hex(), span.trace_state) == (PARENT, "v=1")
    assert (span.name, span.kind, span.flags) == ("POST /x", SPAN_KIND_SERVER, 0x301)
    assert span.start_time_unix_nano == EPOCH_NS + 1_500_000_000
    assert span.end_time_unix_nano == EPOCH_NS + 2_250_000_000
    assert [(e.name, e.time_unix_nano) for e in span.events] == [
        ("first_token", EPOCH_NS + 2 * 10**9)
    ]
    assert (span.status.code, span.status.message) == (2, "upstream_broke")
    values = {pair.key: pair.value for pair in span.attributes}
    assert set(values) == {"a", "n", "f", "t", "error.type"}
    assert (values["a"].string_value, values["n"].int_value) == ("b\u00e4", -1)
    assert (values["f"].double_value, values["t"].WhichOneof("value")) == (0.5, "bool_value")


def test_an_error_that_is_no_failure_and_an_end_that_is_no_end() -> None:
    span = written(BARE).resource_spans[0].scope_spans[0].spans[0]
    assert (span.status.code, span.flags) == (0, 0x101)
    assert [(p.key, p.value.string_value) for p in span.attributes] == [("error.type", "400")]
    assert span.end_time_unix_nano == span.start_time_unix_nano
    assert span.parent_span_id == b""


def test_requests_share_one_message() -> None:
    (of_resource,) = written(WHOLE, BARE).resource_spans
    assert [span.name for span in of_resource.scope_spans[0].spans] == ["POST /x", "accept"]


def test_what_a_collector_answers() -> None:
    response = ExportTraceServiceResponse()
    assert taken(response.SerializeToString()) == Taken(0, "")
    response.partial_success.error_message = "a warning"
    assert taken(response.SerializeToString()) == Taken(0, "")
    response.partial_success.rejected_spans = 3
    assert taken(response.SerializeToString()) == Taken(3, "a warning")
    assert taken(b"<html>") == Taken()
