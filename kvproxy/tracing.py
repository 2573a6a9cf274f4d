"""Traces of requests, where the settings ask for them: whose they are, what is told, and to whom.

Off, nothing of this stands in the way of a request. On, a request costs a look at its trace headers
and, if it is sampled, what the ports note; its spans are made when it is over.
"""

import importlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from importlib.metadata import version
from typing import NamedTuple
from uuid import uuid4

from kvproxy.adapters.http1.tls import TlsFiles, client_context
from kvproxy.adapters.tracing import as_json as spelt
from kvproxy.adapters.tracing.collector import Collector
from kvproxy.adapters.tracing.outbox import Batch, Count, Outbox, Speaker, Taken, Told
from kvproxy.adapters.tracing.ports import RUNNING, TracedPlacer, TracedReader, TracedUpstream
from kvproxy.core.trace import Trace, Value
from kvproxy.core.trace_context import SAMPLED, is_sampled, new_id, parent_of, told, traceparent
from kvproxy.ops.logs import access
from kvproxy.ops.metrics import Metrics
from kvproxy.ops.request_spans import spans_of
from kvproxy.ops.tally import Tally
from kvproxy.proxy import Exchange, Proxy, Record, Upstream
from kvproxy.settings.model import Settings
from kvproxy.settings.tracing import TraceTerms, UnfitEnvironmentError, trace_terms

log = logging.getLogger("kvproxy.tracing")

Handle = Callable[[Exchange], Awaitable[None]]

# A collector that hangs must not keep a process from ending.
_CLOSE_TIMEOUT_S = 3.0
# Made before workers are forked, so that all of them call a conversation the same.
_SECRET = secrets.token_bytes(32)
_new_span_id = partial(new_id, os.urandom, 8)


class Tracing:
    """`count` is told of spans, by what became of them. Raises TlsError."""

    def __init__(self, terms: TraceTerms, spelling: "Spelling", count: Count) -> None:
        self._terms = terms
        headers = {**terms.headers, "content-type": spelling.content_type}
        tls = client_context(TlsFiles(ca=terms.tls_ca), verify=True)
        self._collector = Collector(terms.endpoint, headers, terms.timeout_s, tls, spelling.taken)
        speaker = Speaker(_resource(terms), version("kvproxy"))
        batch, post = partial(spelling.batch, speaker), self._collector.post
        # Without what may be a password.
        where = terms.endpoint.rpartition("@")[2]
        self.outbox = Outbox(batch, post, count, terms.queue_max, where)
        access.addFilter(_with_trace)

    def sending(self, upstream: Upstream) -> Upstream:
        """`upstream`, whose requests are legs of the trace that runs."""
        return TracedUpstream(upstream, time.monotonic)

    def around(self, proxy: Proxy) -> Handle:
        """What `proxy` handles, traced. Its upstream is `sending` already."""
        clock = proxy.clock
        traced = replace(
            proxy,
            reader=TracedReader(proxy.reader, clock),
            placer=TracedPlacer(proxy.placer, clock),
            observe=partial(self._observe, proxy.observe),
        )

        async def handle(exchange: Exchange) -> None:
            trace = self.begin(exchange)
            token = RUNNING.set(trace)
            try:
                await traced.handle(exchange)
            finally:
                RUNNING.reset(token)
                if trace is not None:
                    trace.let_go()

        return handle

    def begin(self, exchange: Exchange) -> Trace | None:
        """None for a request that is not sampled: its replica is told so."""
        headers, parent = exchange.raw_headers, None
        if "traceparent" in exchange.header:
            parent = parent_of(headers or _named(exchange.header))
        trace_id = parent.trace_id if parent is not None else new_id(os.urandom, 16)
        if parent is not None and self._terms.follows:
            sampled = parent.sampled
        else:
            sampled = is_sampled(trace_id, self._terms.sample)
        if sampled:
            flags = SAMPLED if parent is None else parent.flags | SAMPLED
            return Trace(trace_id, _new_span_id(), flags, parent)
        if parent is None:
            said = traceparent(trace_id, _new_span_id(), 0)
            exchange.raw_headers = told(headers, said, keeps_state=False)
        elif parent.sampled:
            said = traceparent(trace_id, parent.span_id, parent.flags & ~SAMPLED)
            exchange.raw_headers = told(headers, said, keeps_state=bool(parent.state))
        return None

    async def close(self) -> None:
        """Waits until what waits is sent, or the collector has hung for long enough."""
        await self.outbox.close(_CLOSE_TIMEOUT_S)
        await self._collector.close()

    def _observe(self, observe: Callable[[Record], None], record: Record) -> None:
        observe(record)
        trace = RUNNING.get()
        if trace is not None:
            spans = spans_of(record, trace, _new_span_id, self._digest)
            self.outbox.put(Told(spans, time.time_ns() - time.monotonic_ns()))

    def _digest(self, name: str) -> str:
        """The same for the same name as long as this server lives, and of no use to others."""
        return blake2b(name.encode(), digest_size=8, key=_SECRET).hexdigest()


def _with_trace(line: logging.LogRecord) -> bool:
    """Lines of the access log name the trace, so that one is found from the other."""
    trace = RUNNING.get()
    if trace is not None:
        line.fields = {**getattr(line, "fields", {}), "trace_id": trace.trace_id}
    return True


def _named(header: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Where the headers as they came are another's, such as Envoy's."""
    names = ("traceparent", "tracestate")
    return [(name.encode(), header[name].encode()) for name in names if name in header]


def build_tracing(
    settings: Settings, metrics: Metrics, env: Mapping[str, str] = os.environ
) -> Tracing | None:
    """None where nobody asks for traces. Exits where the settings do and the extra is missing, and
    raises TlsError; where the environment alone asks, a warning says why there are none."""
    try:
        terms = trace_terms(settings.tracing, env)
    except UnfitEnvironmentError as error:
        if settings.tracing.endpoint:
            raise SystemExit(f"tracing: {error}: set tracing.sample") from None
        log.warning("no traces: %s; set tracing.endpoint to an OTLP/HTTP collector", error)
        return None
    if terms is None:
        return None
    try:
        spelling = _spelling(as_json=terms.as_json)
    except ModuleNotFoundError as error:
        needs = f"needs the package `{error.name}`: pip install 'kvproxy[otel]'"
        if terms.asked:
            raise SystemExit(
                f"tracing.endpoint {needs}, or set tracing.protocol to http/json"
            ) from None
        log.warning("no traces: OTEL_EXPORTER_OTLP_ENDPOINT %s", needs)
        return None
    counted = Tally(
        "kvproxy_spans",
        "Spans for the collector (sent, dropped: too many waited, failed: it did not take them)",
        ("outcome",),
    )
    metrics.count(counted)
    counts = {outcome: counted.of(outcome) for outcome in ("sent", "dropped", "failed")}

    def count(outcome: str, spans: int) -> None:
        counts[outcome].so_far += spans

    return Tracing(terms, spelling, count)


class Spelling(NamedTuple):
    """One way to write what a collector is told, and to read what it says."""

    content_type: str
    batch: Callable[[Speaker], Batch]
    taken: Callable[[bytes], Taken]


def _spelling(*, as_json: bool) -> Spelling:
    if as_json:
        return Spelling(spelt.CONTENT_TYPE, spelt.JsonBatch, spelt.taken)
    # Only who speaks protobuf needs its schema.
    schema = importlib.import_module("kvproxy.adapters.tracing.as_protobuf")
    return Spelling(schema.CONTENT_TYPE, schema.ProtobufBatch, schema.taken)


def _resource(terms: TraceTerms) -> Mapping[str, Value]:
    """What this process is called; what the environment says of it goes before."""
    own: dict[str, Value] = {
        "service.version": version("kvproxy"),
        "service.instance.id": str(uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    return {**own, **terms.resource}
