"""Counters and histograms as plain numbers, shown to Prometheus when it asks.

A request moves a dozen figures, and a client library's labels and locks cost more than the rest of
what is observed; one event loop needs neither.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]


class Tally(Collector):
    """A counter by label values. `name` is without `_total`; without labels it starts at 0."""

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self._described = (name, text, labels)
        self._counts: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, labels: Labels, amount: float = 1) -> None:
        counts = self._counts
        counts[labels] = counts.get(labels, 0) + amount

    def total(self, which: Callable[[Labels], bool] = lambda _: True) -> float:
        """The sum over label values that `which` picks."""
        return sum(count for labels, count in self._counts.items() if which(labels))

    def by(self, label: int) -> dict[str, float]:
        """Sums by the value of the label at that place."""
        sums: dict[str, float] = {}
        for labels, count in self._counts.items():
            sums[labels[label]] = sums.get(labels[label], 0) + count
        return sums

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._described
        family = CounterMetricFamily(name, text, labels=labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        yield family


class Spread(Collector):
    """A histogram by label values; `bounds` are its buckets' upper ends, inclusive."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Labels = ()) -> None:
        self._described = (name, text, labels)
        self._bounds = bounds
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._rows: dict[Labels, list[float]] = {}
        if not labels:
            self._row(())

    def add(self, labels: Labels, value: float) -> None:
        row = self._rows.get(labels) or self._row(labels)
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._described
        family = HistogramMetricFamily(name, text, labels=labels)
        for values, (*counts, total) in self._rows.items():
            buckets, below = [], 0.0
            for bound, count in zip(self._names, counts, strict=True):
                below += count
                buckets.append((bound, below))
            family.add_metric(values, buckets, total)
        yield family

    def _row(self, labels: Labels) -> list[float]:
        """Counts of each bucket and of what is above them all, then the sum."""
        row = self._rows[labels] = [0.0] * (len(self._bounds) + 2)
        return row
