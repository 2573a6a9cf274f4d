"""Counters and histograms as plain numbers, shown to Prometheus when it asks.

A request moves a dozen figures, and a client library's labels and locks cost more than the rest of
what is observed; one event loop needs neither.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]
# By label values: a counter's figure alone, or a histogram's counts and sum.
Rows = dict[Labels, list[float]]


class Count:
    __slots__ = ("so_far",)

    def __init__(self) -> None:
        self.so_far: float = 0


class Tally(Collector):
    """A counter by label values. `name` is without `_total`; without labels it starts at 0.
    `grew` is called when there are label values that were not there before."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Labels = (),
        grew: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._grew = grew
        self._past: dict[Labels, float] = {}
        self._described = (name, text, labels)
        self._counts: dict[Labels, Count] = {} if labels else {(): Count()}

    def of(self, *labels: str) -> "Count":
        """What counts under these labels, for those who count there often."""
        count = self._counts.get(labels)
        if count is None:
            count = self._counts[labels] = Count()
            self._grew()
        return count

    def add(self, labels: Labels, amount: float = 1) -> None:
        count = self._counts.get(labels)
        if count is None:
            count = self.of(*labels)
        count.so_far += amount

    def total(self, which: Callable[[Labels], bool] = lambda _: True) -> float:
        """The sum over label values that `which` picks."""
        return sum(count for labels, count in self._all() if which(labels))

    def by(self, label: int) -> dict[str, float]:
        """Sums by the value of the label at that place."""
        sums: dict[str, float] = {}
        for labels, count in self._all():
            sums[labels[label]] = sums.get(labels[label], 0) + count
        return sums

    def values(self, label: int) -> list[str]:
        """Those of the label at that place, the first seen first."""
        return list(dict.fromkeys(labels[label] for labels in self._counts))

    def drop(self, name: str, value: str) -> None:
        """Show no more what was counted where the label `name`, if there is one, has that value;
        it stays part of the sums."""
        for at, labels in _with(self._described[2], name, value, self._counts):
            rest = (*labels[:at], "", *labels[at + 1 :])
            self._past[rest] = self._past.get(rest, 0) + self._counts.pop(labels).so_far

    def _all(self) -> Iterator[tuple[Labels, float]]:
        yield from self._past.items()
        for labels, count in self._counts.items():
            yield labels, count.so_far

    def rows(self) -> Rows:
        return {labels: [count.so_far] for labels, count in self._counts.items()}

    def load(self, rows: Rows) -> None:
        """Show these in place of what was counted."""
        for labels, row in rows.items():
            self.of(*labels).so_far = row[0]

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._described
        family = CounterMetricFamily(name, text, labels=labels)
        for values, count in self._counts.items():
            family.add_metric(values, count.so_far)
        yield family


class Spread(Collector):
    """A histogram by label values; `bounds` are its buckets' upper ends, inclusive."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Labels = ()) -> None:
        self.name = name
        self._described = (name, text, labels)
        self._bounds = bounds
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._rows: dict[Labels, list[float]] = {}
        if not labels:
            self._row(())

    def of(self, *labels: str) -> list[float]:
        """The row of these labels, for put(): one for all time."""
        return self._rows.get(labels) or self._row(labels)

    def put(self, row: list[float], value: float) -> None:
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def add(self, labels: Labels, value: float) -> None:
        row = self._rows.get(labels) or self._row(labels)
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def drop(self, name: str, value: str) -> None:
        """Show no more what was counted where the label `name`, if there is one, has that value."""
        for _, labels in _with(self._described[2], name, value, self._rows):
            del self._rows[labels]

    def rows(self) -> Rows:
        return {labels: list(row) for labels, row in self._rows.items()}

    def load(self, rows: Rows) -> None:
        """Show these in place of what was counted."""
        for labels, row in rows.items():
            mine = self.of(*labels)
            if len(row) == len(mine):
                mine[:] = row

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


def _with(
    names: Labels, name: str, value: str, rows: Iterable[Labels]
) -> Iterable[tuple[int, Labels]]:
    """Where the label `name` stands, and the label values of those that have `value` there."""
    if name not in names:
        return []
    at = names.index(name)
    return [(at, labels) for labels in rows if labels[at] == value]
