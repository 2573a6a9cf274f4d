"""Spans to a collector, by OpenTelemetry's own exporter. Needs the extra `kvproxy[otel]`.

The exporter reads OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT, _COMPRESSION and _CERTIFICATE by itself
where the settings say nothing.
"""

import logging
import os
import socket
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import orjson
import requests
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode
from requests.adapters import HTTPAdapter

from kvproxy.adapters.tracing.outbox import Told
from kvproxy.core.trace import Kind

_KINDS = {
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.INTERNAL: SpanKind.INTERNAL,
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)
_EXPORTER_LOG = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class OtlpSender:
    """`endpoint` is the whole URL. An empty `service_name`, no `headers` and no `timeout_s` leave
    it to the environment."""

    def __init__(
        self,
        endpoint: str,
        *,
        as_json: bool = False,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        service_name: str = "",
    ) -> None:
        self._heard = _Heard()
        self._exporter = OTLPSpanExporter(
            endpoint,
            headers=dict(headers) if headers else None,
            timeout=timeout_s,
            compression=Compression.NoCompression if as_json else None,
            session=_json_session() if as_json else None,
        )
        self._resource = _resource(service_name)
        self._scope = InstrumentationScope("kvproxy", version("kvproxy"))

    def send(self, batch: Sequence[Told]) -> str:
        """Why they were not taken, or "". Tries again for as long as its timeout lets it."""
        self._heard.last = ""
        spans = [span for told in batch for span in self._spans(told)]
        if self._exporter.export(spans) is SpanExportResult.SUCCESS:
            return ""
        return self._heard.last or "it failed"

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _spans(self, told: Told) -> Iterator[ReadableSpan]:
        epoch_ns = told.epoch_ns
        for span in told.spans:
            state = TraceState.from_header([span.state]) if span.state else None
            trace_id = int(span.trace_id, 16)
            yield ReadableSpan(
                span.name,
                _context(trace_id, span.span_id, state),
                _context(trace_id, span.parent_id, state, remote=span.remote),
                self._resource,
                {**span.attributes, "error.type": span.error} if span.error else span.attributes,
                [Event(each.name, timestamp=_ns(each.at, epoch_ns)) for each in span.events],
                (),
                _KINDS[span.kind],
                status=Status(StatusCode.ERROR, span.error) if span.failed else _UNSET,
                start_time=_ns(span.began, epoch_ns),
                end_time=_ns(max(span.began, span.ended), epoch_ns),
                instrumentation_scope=self._scope,
            )


def _context(
    trace_id: int, span_id: str, state: TraceState | None, *, remote: bool = False
) -> SpanContext | None:
    if not span_id:
        return None
    return SpanContext(trace_id, int(span_id, 16), remote, _SAMPLED, state)


def _ns(at_s: float, epoch_ns: int) -> int:
    return epoch_ns + round(at_s * 1e9)


def _resource(service_name: str) -> Resource:
    """Who speaks. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say what the settings do not."""
    own = {
        "service.version": version("kvproxy"),
        "service.instance.id": f"{socket.gethostname()[:64]}:{os.getpid()}",
    }
    named = {"service.name": service_name} if service_name else {}
    told = Resource(own).merge(Resource.create(named))
    if str(told.attributes["service.name"]).startswith("unknown_service"):
        told = told.merge(Resource({"service.name": "kvproxy"}))
    return told


class _Heard(logging.Handler):
    """What the exporter says goes no further: kvproxy says it once, and not for every batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        logger = logging.getLogger(_EXPORTER_LOG)
        logger.handlers[:] = [self]
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def _json_session() -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _JsonAdapter())
    return session


class _JsonAdapter(HTTPAdapter):
    """What the exporter encoded as protobuf leaves as JSON."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        body = request.body
        if isinstance(body, bytes):
            spelled = orjson.dumps(as_json(ExportTraceServiceRequest.FromString(body)))
            request.prepare_body(spelled, None)
            request.headers["content-type"] = "application/json"
        return super().send(request, *args, **kwargs)


def as_json(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """OTLP's JSON: that of protobuf, but ids are hex and enums are numbers."""
    told: dict[str, Any] = MessageToDict(request, use_integers_for_enums=True)
    for of_resource in told.get("resourceSpans", []):
        for of_scope in of_resource.get("scopeSpans", []):
            for span in of_scope.get("spans", []):
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = b64decode(span[name]).hex()
    return told
