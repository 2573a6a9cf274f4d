"""Memory and CPU of this process, under the names that every program's dashboards know.

Of the collector that prometheus_client has, without its count of open files: at ten thousand
connections listing them takes the event loop as long as some requests.
"""

import resource
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_STATM = Path("/proc/self/statm")
# With workers nearly all other figures are of all processes, these of the one that places.
_WHOSE = "of this process (with workers: of the one that places)"


class ProcessGauges(Collector):
    """`began_at`: wall clock, in seconds since 1970. Without /proc there is no resident memory."""

    def __init__(self, began_at: float | None = None, statm: Path = _STATM) -> None:
        self._began_at = time.time() if began_at is None else began_at
        self._statm = statm

    def collect(self) -> Iterable[Metric]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        yield CounterMetricFamily(
            "process_cpu_seconds",
            f"CPU time, user and system, {_WHOSE}",
            value=used.ru_utime + used.ru_stime,
        )
        yield GaugeMetricFamily(
            "process_start_time_seconds", f"Start {_WHOSE}", value=self._began_at
        )
        try:
            pages = int(self._statm.read_bytes().split()[1])
        except (OSError, ValueError, IndexError):
            return
        yield GaugeMetricFamily(
            "process_resident_memory_bytes",
            f"Resident memory {_WHOSE}",
            value=pages * resource.getpagesize(),
        )
