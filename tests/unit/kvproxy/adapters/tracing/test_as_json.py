"""The JSON spelling says what the protobuf one says, read by protobuf's own library."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.adapters.tracing.as_json import JsonBatch, taken
from kvproxy.adapters.tracing.as_protobuf import ProtobufBatch
from kvproxy.adapters.tracing.outbox import Speaker, Taken, Told
from kvproxy.adapters.tracing.schema import ExportTraceServiceRequest
from kvproxy.core.trace import Event, Kind, Span

SPEAKER = Speaker({"service.name": "edge", "process.pid": 7}, "1.2")
HEX = st.text("0123456789abcdef", min_size=16, max_size=16)
TIMES = st.floats(0, 1e6)
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
SPANS = st.builds(
    Span,
    name=st.sampled_from(["accept", "POST /v1/chat/completions"]),
    kind=st.sampled_from(Kind),
    trace_id=st.just("0af7651916cd43dd8448eb211c80319c"),
    span_id=HEX,
    parent_id=st.one_of(st.just(""), HEX),
    began=TIMES,
    ended=TIMES,
    attributes=st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES),
    events=st.lists(st.builds(Event, st.just("first_token"), TIMES), max_size=2).map(tuple),
    error=st.sampled_from(["", "upstream_broke"]),
    failed=st.booleans(),
    state=st.sampled_from(["", "a=1,b=2"]),
    remote=st.booleans(),
)


def read(body: bytes) -> Any:
    """Protobuf's own JSON has ids in base64."""
    told: dict[str, Any] = orjson.loads(body)
    for span in told["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            span[name] = b64encode(bytes.fromhex(span[name])).decode()
    return ParseDict(told, ExportTraceServiceRequest())


@given(st.lists(st.lists(SPANS, max_size=3), min_size=1, max_size=3))
def test_both_spellings_say_the_same(requests: list[list[Span]]) -> None:
    batches = JsonBatch(SPEAKER), ProtobufBatch(SPEAKER)
    for spans in requests:
        for batch in batches:
            batch.add(Told(spans, 10**18))
    said = read(batches[0].body())
    assert said == ExportTraceServiceRequest.FromString(batches[1].body())


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", Taken()),
        (b"{}", Taken()),
        (b'{"partialSuccess":{}}', Taken()),
        (b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"old"}}', Taken(2, "old")),
        (b'{"partialSuccess":{"rejectedSpans":2}}', Taken(2, "")),
        (b'{"partialSuccess":{"rejectedSpans":"many"}}', Taken()),
        (b"<html>", Taken()),
    ],
)
def test_what_a_collector_answers(body: bytes, found: Taken) -> None:
    assert taken(body) == found
