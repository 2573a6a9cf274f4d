"""Prometheus metrics. Counters are fed by one Record a request; gauges are read at scrape time.

Labels are replica, outcome, kind and the like: never a session, a model named by a client, or text.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvproxy.core.admission import Admission
from kvproxy.core.clients import family
from kvproxy.core.errors import CLIENTS_OWN
from kvproxy.core.marks import retention_name
from kvproxy.core.replica import Replica
from kvproxy.core.router import Router
from kvproxy.core.score import Match
from kvproxy.core.turn import Turn
from kvproxy.core.types import Usage
from kvproxy.ops.admission_gauges import AdmissionGauges
from kvproxy.ops.knowledge_gauges import KnowledgeGauges
from kvproxy.ops.model_counters import ModelCounters
from kvproxy.ops.process_gauges import ProcessGauges
from kvproxy.ops.source_counters import SourceCounters, failed_work
from kvproxy.ops.tally import Rows, Spread, Tally
from kvproxy.proxy import Record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_NO_FAILURE = CLIENTS_OWN | {"ok", "client_gone"}
# Replicas that are gone and still shown: with discovery there are new names every day.
_GONE_MAX = 256
_OUTCOMES = (
    "Requests by replica and outcome (ok, client_gone, refused by the engine with a 4xx, "
    "upstream_declined for its 429, upstream_error for its 5xx, or an error code)"
)
_TOKENS = (0, 16, 64, 256, 1024, 4096, 16384, 65536, 262144)


class ReplicaGauges(Collector):
    """What the router believes of each replica, at the moment of the scrape."""

    def __init__(self, router: Router, admission: Admission, clock: Callable[[], float]) -> None:
        self._router = router
        self._admission = admission
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        now = self._clock()
        replicas = self._router.replicas
        gauges: dict[str, tuple[str, Callable[[Replica], float]]] = {
            "up": ("1 if the replica is ready for new work", lambda r: r.up),
            "in_flight": ("requests being answered", lambda r: r.load.in_flight),
            "queue_seconds": ("prefill it owes us", lambda r: r.load.queue_s(now)),
            "hbm_capacity_tokens": ("size of its prefix cache", lambda r: r.hbm_tokens),
            "hbm_held_tokens": (
                "prefixes believed to be held",
                lambda r: r.hbm.size,
            ),
            "hbm_evicted_tokens": (
                "believed evicted so far",
                lambda r: r.hbm.evicted,
            ),
            "sessions": (
                "conversations living there",
                lambda r: self._router.affinity.sessions(r.id),
            ),
            "prefill_tokens_per_second": ("learned rate", lambda r: 1 / r.rate.s_per_tok),
            "scraped_running": ("running, by its own metrics", lambda r: r.running),
            "scraped_waiting": ("waiting, by its own metrics", lambda r: r.waiting),
        }
        for name, (text, read) in gauges.items():
            family = GaugeMetricFamily(f"kvproxy_replica_{name}", text, labels=["replica"])
            for replica in replicas:
                family.add_metric([replica.id], float(read(replica)))
            yield family
        waiting = self._admission.length
        yield GaugeMetricFamily("kvproxy_queue_length", "requests held back", value=waiting)
        sessions = len(self._router.affinity)
        yield GaugeMetricFamily("kvproxy_sessions", "conversations remembered", value=sessions)


class _OfReplica:
    """Where answers of one replica count."""

    __slots__ = (
        *("disk", "dram", "hbm", "predicted", "prompt"),
        *("replica", "reported", "total", "ttft"),
    )

    def __init__(self, metrics: "Metrics", replica: str) -> None:
        self.replica = replica
        self.total = metrics._total.of(replica)
        self.ttft = metrics._ttft.of(replica)
        self.prompt = metrics._prompt.of(replica)
        self.predicted = metrics._cached.of(replica, "predicted")
        self.reported = metrics._cached.of(replica, "reported")
        self.hbm = metrics._tiers.of(replica, "hbm")
        self.dram = metrics._tiers.of(replica, "dram")
        self.disk = metrics._tiers.of(replica, "disk")


class Metrics:
    """The page and what feeds it."""

    def __init__(self, router: Router, admission: Admission, clock: Callable[[], float]) -> None:
        self._router = router
        self._registry = registry = CollectorRegistry()
        own = (ReplicaGauges(router, admission, clock), AdmissionGauges(router, admission, clock))
        more = (SourceCounters(failed_work), ProcessGauges(), _Constant(_build_info()))
        for read in (*own, KnowledgeGauges(router.holdings), *more):
            registry.register(read)
        self._requests = Tally(
            "kvproxy_requests",
            _OUTCOMES,
            ("replica", "outcome"),
            self._came,
        )
        self._attempts = Tally("kvproxy_retries", "Further attempts")
        self._continued = Tally(
            "kvproxy_continued_streams",
            "Streams that broke off and went on elsewhere, by what came of them",
            ("outcome",),
        )
        self._ttft = Spread(
            "kvproxy_ttft_seconds",
            "From the request's head to the first token, of answers that stream",
            _SECONDS,
            ("replica",),
        )
        self._waited = Spread(
            "kvproxy_queue_seconds", "Time a request was held back before it was placed", _SECONDS
        )
        self._total = Spread(
            "kvproxy_request_seconds",
            "From the request's head to the end of the answer",
            _SECONDS,
            ("replica",),
        )
        self._prompt = Tally(
            "kvproxy_prompt_tokens", "Prompt tokens as engines reported them", ("replica",)
        )
        self._cached = Tally(
            "kvproxy_cached_tokens",
            "Cached prompt tokens of answers with usage, predicted and reported",
            ("replica", "source"),
        )
        self._tiers = Tally("kvproxy_predicted_tokens", "Cached, as predicted", ("replica", "tier"))
        self._error = Spread(
            "kvproxy_cache_prediction_error_tokens",
            "Distance between predicted and reported cached tokens, by source of knowledge",
            _TOKENS,
            ("source",),
        )
        self._splices = Tally(
            "kvproxy_splices",
            "Changes to forwarded bodies, by kind and whether they were made",
            ("kind", "mode"),
        )
        self._evidence = Tally(
            "kvproxy_session_evidence", "What told the conversation of a request", ("evidence",)
        )
        by_client = ("cause", "client")
        self._breaks = Tally("kvproxy_prefix_breaks", "Prefixes not wholly used", by_client)
        self._lost = Tally("kvproxy_prefix_lost_tokens", "Cached tokens so lost", by_client)
        self._of: dict[str, _OfReplica] = {}
        self._waits, self._errors = self._waited.of(), self._error.of("used")
        self._add_hints()
        self._counted: dict[str, Tally | Spread] = {}
        for collector in list(vars(self).values()):
            if isinstance(collector, Tally | Spread):
                self.count(collector)
        self._models = ModelCounters(self.count)

    def _add_hints(self) -> None:
        """What clients say about their cache, and what became of it."""
        self._created = Tally(
            "kvproxy_cache_created_tokens",
            "Prompt tokens put into caches, as reported",
            ("replica",),
        )
        self._marked = Tally(
            "kvproxy_cache_marked_requests",
            "Requests with cache marks, by the longest time that one of them asks for",
            ("retention",),
        )
        self._marks = Tally("kvproxy_cache_marks", "Cache marks in requests that were read")
        self._pins = Tally(
            "kvproxy_response_pins",
            "Requests that go on from a response or ask for one: held, gone with its replica, or "
            "unknown",
            ("outcome",),
        )

    def add(self, collector: Collector) -> None:
        self._registry.register(collector)

    def count(self, collector: Tally | Spread) -> None:
        """One whose figures are added up over workers."""
        self._registry.register(collector)
        self._counted[collector.name] = collector

    def rows(self) -> dict[str, Rows]:
        """All that was counted here, by name."""
        return {name: counted.rows() for name, counted in self._counted.items()}

    def load(self, rows: Mapping[str, Rows]) -> None:
        """Show what was counted elsewhere."""
        for name, counted in self._counted.items():
            counted.load(rows.get(name, {}))

    def totals(self) -> dict[str, object]:
        """Since the start, for the live view; tokens are of answers with usage."""
        outcomes, cached = self._requests.by(1), self._cached.by(1)
        return {
            "requests": sum(outcomes.values()),
            "failed": sum(n for name, n in outcomes.items() if name not in _NO_FAILURE),
            "refused": sum(n for name, n in outcomes.items() if name in CLIENTS_OWN),
            "prompt_tokens": self._prompt.total(),
            "reported_tokens": cached.get("reported", 0),
            "predicted_tokens": cached.get("predicted", 0),
            "lost_tokens": self._lost.by(0),
        }

    def answered(self) -> int:
        """Requests that went well, since the start."""
        return round(self._requests.by(1).get("ok", 0))

    def families(self) -> Iterable[Metric]:
        """What the page would show now; those without a value yet are there, too."""
        return self._registry.collect()

    def page(self) -> bytes:
        return generate_latest(self._registry)

    def observe(self, record: Record) -> None:
        self._models.observe(record)
        placement = record.placement
        replica = placement.replica.id if placement else ""
        self._requests.add((replica, record.outcome))
        if record.pin:
            self._pins.add((record.pin,))
        if record.attempts > 1:
            self._attempts.add((), record.attempts - 1)
        if record.continued:
            self._continued.add((record.outcome,))
        if record.turn is None or not replica:
            return
        of = self._of.get(replica)
        if of is None:
            of = self._of[replica] = _OfReplica(self, replica)
        self._total.put(of.total, record.total_s)
        self._waited.put(self._waits, record.waited_s)
        if record.ttft_s is not None and record.turn.stream:
            self._ttft.put(of.ttft, record.ttft_s)
        if record.identity is not None:
            self._evidence.add((record.identity.evidence,))
        self._observe_body(record.turn)
        if record.verdict.cause:
            by = (record.verdict.cause, family(record.exchange.header.get("user-agent", "")))
            self._breaks.add(by)
            self._lost.add(by, record.verdict.lost_tokens)
        if record.usage is not None and placement is not None:
            self._observe_usage(record.usage, placement.placing.match, of)

    def _came(self) -> None:
        """A replica or an outcome is new: those that are gone the longest make room."""
        there = {replica.id for replica in self._router.replicas}
        gone = [name for name in self._requests.values(0) if name and name not in there]
        for name in gone[:-_GONE_MAX]:
            self._of.pop(name, None)
            for counted in self._counted.values():
                counted.drop("replica", name)

    def _observe_body(self, turn: Turn) -> None:
        if turn.marks.number:
            self._marked.add((retention_name(turn.marks.retention_s),))
            self._marks.add((), turn.marks.number)
        for splice in turn.splices:
            self._splices.add((splice.kind, "applied"))
        for splice in turn.not_applied:
            self._splices.add((splice.kind, "dry_run"))

    def _observe_usage(self, usage: Usage, match: Match, of: _OfReplica) -> None:
        of.prompt.so_far += usage.prompt_tokens
        if usage.created_tokens is not None:
            self._created.add((of.replica,), usage.created_tokens)
        cached = usage.cached_tokens
        if cached is None:
            return
        of.predicted.so_far += match.tokens
        of.reported.so_far += cached
        self._error.put(self._errors, abs(match.tokens - cached))
        of.hbm.so_far += match.hbm
        of.dram.so_far += match.dram
        of.disk.so_far += match.disk
        if match.by_events is not None:
            self._error.add(("events",), abs(match.by_events - cached))
        if match.by_history is not None:
            self._error.add(("history",), abs(match.by_history - cached))
        if match.by_coordinator is not None:
            self._error.add(("coordinator",), abs(match.by_coordinator - cached))


class _Constant(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]


def _build_info() -> Metric:
    build = GaugeMetricFamily("kvproxy_build_info", "version", labels=["version"])
    build.add_metric([version("kvproxy")], 1)
    return build
