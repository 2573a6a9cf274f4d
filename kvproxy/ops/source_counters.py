"""Counters that sources of knowledge keep for themselves, read at scrape time."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvproxy.background import failures


class Counted(NamedTuple):
    """A figure by its labels; all of one name have the same labels. `gauge`: it may fall."""

    name: str
    text: str
    labels: Mapping[str, str]
    value: float
    gauge: bool = False


def failed_work() -> Iterable[Counted]:
    """What went wrong in the background of this process."""
    text = (
        "Times that work in the background failed and was begun again; the log says of what "
        "(with workers: of the process that places)"
    )
    for what, count in sorted(failures.items()):
        yield Counted("kvproxy_background_failures", text, {"task": what}, count)


class SourceCounters(Collector):
    def __init__(self, read: Callable[[], Iterable[Counted]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for each in self._read():
            family = families.get(each.name)
            if family is None:
                kind = GaugeMetricFamily if each.gauge else CounterMetricFamily
                family = families[each.name] = kind(each.name, each.text, labels=list(each.labels))
            family.add_metric(list(each.labels.values()), each.value)
        return families.values()
