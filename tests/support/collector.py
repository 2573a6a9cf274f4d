"""An OTLP/HTTP collector that keeps what it is told."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict

from kvproxy.adapters.tracing.schema import SPAN_KIND_SERVER, ExportTraceServiceRequest
from tests.support.proxies import eventually
from tests.support.wire import RawHeaders, read_body, read_headers

Value = str | int | float | bool


@dataclass(frozen=True)
class Seen:
    """A span as it arrived; ids in hex, times in ns since 1970, `status` 2 is an error."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    began: int
    ended: int
    status: int
    message: str
    attributes: dict[str, Value]
    events: dict[str, int]
    state: str


@dataclass
class Collector:
    """`status` is what it answers; while `open` is cleared it answers nothing."""

    status: int = 200
    url: str = ""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    spans: list[Seen] = field(default_factory=list)
    heads: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    resource: dict[str, Value] = field(default_factory=dict)

    async def traces(self, count: int, within_s: float = 10.0) -> dict[str, list[Seen]]:
        """By trace id, once that many requests are told of; their own spans come first."""
        await eventually(lambda: len(self.roots()) >= count, within_s)
        found: dict[str, list[Seen]] = {}
        for span in sorted(self.spans, key=lambda s: s.kind != SPAN_KIND_SERVER):
            found.setdefault(span.trace_id, []).append(span)
        return found

    async def trace(self) -> list[Seen]:
        """Of the only request."""
        ((_, spans),) = (await self.traces(1)).items()
        return spans

    def roots(self) -> list[Seen]:
        return [span for span in self.spans if span.kind == SPAN_KIND_SERVER]

    def take(self, headers: RawHeaders, path: str, body: bytes) -> None:
        header = {name.decode().lower(): value.decode() for name, value in headers}
        self.heads.append((path, header))
        request = ExportTraceServiceRequest()
        if header["content-type"] == "application/json":
            ParseDict(_with_bytes(orjson.loads(body)), request)
        else:
            assert header["content-type"] == "application/x-protobuf"
            request.ParseFromString(body)
        for of_resource in request.resource_spans:
            self.resource = _values(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                assert of_scope.scope.name == "kvproxy"
                self.spans += [_seen(span) for span in of_scope.spans]


def named(spans: list[Seen], name: str) -> list[Seen]:
    """In the order in which they began."""
    return sorted((span for span in spans if span.name == name), key=lambda span: span.began)


@asynccontextmanager
async def collecting(tls: ssl.SSLContext | None = None) -> AsyncIterator[Collector]:
    collector = Collector()
    collector.open.set()
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            while True:
                first, headers = await read_headers(reader)
                body = await read_body(reader, headers, to_end=False)
                await collector.open.wait()
                if collector.status == 200:
                    collector.take(headers, first.split(b" ")[1].decode(), body)
                head = f"HTTP/1.1 {collector.status} X\r\ncontent-length: 0\r\n\r\n"
                writer.write(head.encode())
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**24, ssl=tls)
    scheme = "http" if tls is None else "https"
    collector.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield collector
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)


def _seen(span: Any) -> Seen:
    return Seen(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code,
        span.status.message,
        _values(span.attributes),
        {event.name: event.time_unix_nano for event in span.events},
        span.trace_state,
    )


def _values(pairs: Any) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Value:
    kind = value.WhichOneof("value")
    found: Value = getattr(value, kind or "string_value")
    return found


def _with_bytes(told: dict[str, object]) -> dict[str, object]:
    """OTLP's JSON as protobuf's own: ids in base64."""
    text = orjson.dumps(told)
    read: dict[str, list[dict[str, list[dict[str, list[dict[str, str]]]]]]] = orjson.loads(text)
    for of_resource in read["resourceSpans"]:
        for of_scope in of_resource["scopeSpans"]:
            for span in of_scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = b64encode(bytes.fromhex(span[name])).decode()
    return dict(read)
