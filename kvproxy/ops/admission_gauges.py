"""Who waits and whether memory suffices, read at scrape time."""

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvproxy.core.admission import Admission
from kvproxy.core.regime import Regime, regime_of
from kvproxy.core.router import Router


class AdmissionGauges(Collector):
    def __init__(self, router: Router, admission: Admission, clock: Callable[[], float]) -> None:
        self._router = router
        self._admission = admission
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        now = self._clock()
        yield from self._queue(now)
        yield from self._memory(now)

    def _queue(self, now: float) -> Iterable[Metric]:
        queued = GaugeMetricFamily(
            "kvproxy_replica_queue_length", "requests held back for it", labels=["replica"]
        )
        for replica in self._router.replicas:
            queued.add_metric([replica.id], self._admission.waiting(replica))
        yield queued
        oldest_s = self._admission.oldest_s(now)
        yield GaugeMetricFamily(
            "kvproxy_queue_oldest_seconds", "longest wait of those held back", value=oldest_s
        )

    def _memory(self, now: float) -> Iterable[Metric]:
        advice = regime_of(self._router, now)
        used = GaugeMetricFamily(
            "kvproxy_working_set_tokens",
            "prompts of conversations used within the window",
            labels=["window"],
        )
        for window_s, tokens in advice.working_set.items():
            used.add_metric([f"{window_s / 60:.0f}m"], tokens)
        yield used
        yield GaugeMetricFamily(
            "kvproxy_hbm_usable_tokens",
            "prefix cache that running requests leave over",
            value=advice.capacity.usable,
        )
        regimes = GaugeMetricFamily(
            "kvproxy_regime", "1 for what the working set calls for", labels=["regime"]
        )
        for regime in Regime:
            regimes.add_metric([regime], regime is advice.regime)
        yield regimes
