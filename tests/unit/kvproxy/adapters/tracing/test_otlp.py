"""Spans as OpenTelemetry has them; that a collector understands them: integration/test_tracing."""

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from kvproxy.adapters.tracing.otlp import OtlpSender, as_json
from kvproxy.adapters.tracing.outbox import Told
from kvproxy.core.trace import Event, Kind, Span

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
NOWHERE = "http://127.0.0.1:9/v1/traces"
WHOLE = Span(
    "POST /x",
    Kind.SERVER,
    TRACE,
    SPAN,
    PARENT,
    1.5,
    2.25,
    {"a": "b", "n": 1, "f": 0.5, "t": True},
    (Event("first_token", 2.0),),
    error="upstream_broke",
    failed=True,
    state="v=1",
    remote=True,
)
BARE = Span("accept", Kind.INTERNAL, TRACE, "1" * 16, SPAN, 2.0, 1.0, {}, error="400")


def encoded(*spans: Span, epoch_ns: int = 10**18) -> list[ProtoSpan]:
    sender = OtlpSender(NOWHERE)
    request = encode_spans(list(sender._spans(Told(spans, epoch_ns))))
    (of_resource,) = request.resource_spans
    return list(of_resource.scope_spans[0].spans)


def test_all_of_a_span_arrives() -> None:
    (span,) = encoded(WHOLE)
    assert (span.trace_id.hex(), span.span_id.hex()) == (TRACE, SPAN)
    assert (span.parent_span_id.hex(), span.trace_state) == (PARENT, "v=1")
    assert (span.name, span.kind) == ("POST /x", ProtoSpan.SPAN_KIND_SERVER)
    assert span.start_time_unix_nano == 10**18 + 1_500_000_000
    assert span.end_time_unix_nano == 10**18 + 2_250_000_000
    assert [(e.name, e.time_unix_nano) for e in span.events] == [
        ("first_token", 10**18 + 2 * 10**9)
    ]
    assert (span.status.code, span.status.message) == (2, "upstream_broke")
    values = {pair.key: pair.value for pair in span.attributes}
    assert set(values) == {"a", "n", "f", "t", "error.type"}
    assert (values["n"].int_value, values["t"].bool_value) == (1, True)


def test_an_error_that_is_no_failure_and_an_end_that_is_no_end() -> None:
    (span,) = encoded(BARE)
    assert span.status.code == 0
    assert [(p.key, p.value.string_value) for p in span.attributes] == [("error.type", "400")]
    assert span.end_time_unix_nano == span.start_time_unix_nano


def test_json_has_ids_in_hex_and_enums_as_numbers() -> None:
    sender = OtlpSender(NOWHERE)
    told = as_json(encode_spans(list(sender._spans(Told([WHOLE], 0)))))
    (span,) = told["resourceSpans"][0]["scopeSpans"][0]["spans"]
    ids = (span["traceId"], span["spanId"], span["parentSpanId"])
    assert (ids, span["kind"]) == ((TRACE, SPAN, PARENT), 2)
    assert span["startTimeUnixNano"] == "1500000000"


@pytest.mark.parametrize(
    ("env", "given", "name"),
    [
        ({}, "", "kvproxy"),
        ({"OTEL_SERVICE_NAME": "env"}, "", "env"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=attr,a=b"}, "", "attr"),
        ({"OTEL_SERVICE_NAME": "env"}, "ours", "ours"),
    ],
)
def test_who_speaks(
    env: dict[str, str], given: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in env.items():
        monkeypatch.setenv(variable, value)
    told = OtlpSender(NOWHERE, service_name=given)._resource.attributes
    assert told["service.name"] == name
    assert told["service.version"]
    assert told["service.instance.id"]
    assert told.get("a") == ("b" if name == "attr" else None)


def test_a_collector_that_is_not_there_is_named_with_the_reason() -> None:
    sender = OtlpSender(NOWHERE, timeout_s=0.1)
    assert sender.send([Told([WHOLE], 0)])
    sender.close()
