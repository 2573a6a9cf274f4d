"""Traces of requests, where the settings ask for them: whose they are, what is told, and to whom.

Off, nothing of this stands in the way of a request. On, a request costs a look at its trace headers
and, if it is sampled, what the ports note; its spans are made when it is over.
"""

import importlib
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING

from kvproxy.adapters.tracing.outbox import Outbox, Told
from kvproxy.adapters.tracing.ports import RUNNING, TracedPlacer, TracedReader, TracedUpstream
from kvproxy.core.trace import Trace
from kvproxy.core.trace_context import SAMPLED, is_sampled, new_id, parent_of, told, traceparent
from kvproxy.ops.metrics import Metrics
from kvproxy.ops.request_spans import spans_of
from kvproxy.ops.tally import Tally
from kvproxy.proxy import Exchange, Proxy, Record, Upstream
from kvproxy.settings.model import Settings
from kvproxy.settings.tracing import TraceTerms, UnfitEnvironmentError, trace_terms

if TYPE_CHECKING:
    from kvproxy.adapters.tracing.otlp import OtlpSender

log = logging.getLogger("kvproxy.tracing")

Handle = Callable[[Exchange], Awaitable[None]]

# A collector that hangs must not keep a process from ending.
_CLOSE_TIMEOUT_S = 5.0
_new_span_id = partial(new_id, os.urandom, 8)


class Tracing:
    """`counted`: spans, by what became of them."""

    def __init__(self, terms: TraceTerms, sender: "OtlpSender", counted: Tally) -> None:
        self._terms = terms
        self._sender = sender
        self._secret = secrets.token_bytes(32)
        counts = {outcome: counted.of(outcome) for outcome in ("sent", "dropped", "failed")}

        def count(outcome: str, spans: int) -> None:
            counts[outcome].so_far += spans

        self._outbox = Outbox(sender.send, count, terms.queue_max, terms.endpoint)

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
            token = RUNNING.set(self.begin(exchange))
            try:
                await traced.handle(exchange)
            finally:
                RUNNING.reset(token)

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

    def close(self) -> None:
        """Blocks until what waits is sent, or the collector has hung for long enough."""
        self._outbox.close(_CLOSE_TIMEOUT_S)
        self._sender.close()

    def _observe(self, observe: Callable[[Record], None], record: Record) -> None:
        observe(record)
        trace = RUNNING.get()
        if trace is not None:
            spans = spans_of(record, trace, _new_span_id, self._digest)
            self._outbox.put(Told(spans, time.time_ns() - time.monotonic_ns()))

    def _digest(self, name: str) -> str:
        """The same for the same name as long as this process lives, and of no use to others."""
        return blake2b(name.encode(), digest_size=8, key=self._secret).hexdigest()


def _named(header: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Where the headers as they came are another's, such as Envoy's."""
    names = ("traceparent", "tracestate")
    return [(name.encode(), header[name].encode()) for name in names if name in header]


def build_tracing(
    settings: Settings, metrics: Metrics, env: Mapping[str, str] = os.environ
) -> Tracing | None:
    """None where nobody asks for traces. Exits where the settings do and the extra is missing;
    where the environment alone does, a warning says why there are none."""
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
        # Only a proxy that traces needs the exporter, whose imports take their time.
        otlp = importlib.import_module("kvproxy.adapters.tracing.otlp")
    except ModuleNotFoundError as error:
        needs = f"needs the package `{error.name}`: pip install 'kvproxy[otel]'"
        if terms.asked:
            raise SystemExit(f"tracing.endpoint {needs}") from None
        log.warning("no traces: OTEL_EXPORTER_OTLP_ENDPOINT %s", needs)
        return None
    sender: OtlpSender = otlp.OtlpSender(
        terms.endpoint,
        as_json=terms.as_json,
        headers=terms.headers,
        timeout_s=terms.timeout_s,
        service_name=terms.service_name,
    )
    counted = Tally(
        "kvproxy_spans",
        "Spans for the collector (sent, dropped: too many waited, failed: it did not take them)",
        ("outcome",),
    )
    metrics.count(counted)
    return Tracing(terms, sender, counted)
