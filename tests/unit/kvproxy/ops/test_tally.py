"""Against the client library's own counters and histograms."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from kvproxy.ops.tally import Spread, Tally

BOUNDS = (0.5, 1, 2.5)
VALUES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 0.5, 0.6, 1, 2.5, 9])))


def shown(registry: CollectorRegistry) -> list[str]:
    """Lines of the page in any order; the library adds when each series was made."""
    page = generate_latest(registry).decode().splitlines()
    return sorted(line for line in page if "_created" not in line)


@given(VALUES)
def test_pages_are_those_of_the_library(values: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally, spread = Tally("c", "text", ("l",)), Spread("h", "text", BOUNDS, ("l",))
    ours.register(tally)
    ours.register(spread)
    counter = Counter("c", "text", ["l"], registry=theirs)
    histogram = Histogram("h", "text", ["l"], buckets=BOUNDS, registry=theirs)
    for label, value in values:
        tally.add((label,), value)
        spread.add((label,), value)
        counter.labels(label).inc(value)
        histogram.labels(label).observe(value)
    assert shown(ours) == shown(theirs)


def test_without_labels_they_are_there_from_the_start() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    ours.register(Tally("c", "text"))
    ours.register(Spread("h", "text", BOUNDS))
    Counter("c", "text", registry=theirs)
    Histogram("h", "text", buckets=BOUNDS, registry=theirs)
    assert shown(ours) == shown(theirs)


def test_what_is_dropped_is_shown_no_more_and_stays_in_sums() -> None:
    registry, new = CollectorRegistry(), list[None]()
    tally = Tally("c", "text", ("replica", "outcome"), lambda: new.append(None))
    spread, other = Spread("h", "text", BOUNDS, ("replica",)), Tally("o", "text", ("kind",))
    for counted in (tally, spread, other):
        registry.register(counted)
    for replica in ("a", "b", "a"):
        tally.add((replica, "ok"), 2)
        spread.add((replica,), 1.0)
    other.add(("a",))
    assert (len(new), tally.values(0)) == (2, ["a", "b"])
    for counted in (tally, spread, other):
        counted.drop("replica", "a")
        counted.drop("replica", "never there")
    page = generate_latest(registry).decode()
    assert 'replica="a"' not in page
    assert 'replica="b"' in page
    assert 'o_total{kind="a"} 1.0' in page
    assert (tally.total(), tally.by(1), tally.by(0)) == (6, {"ok": 6}, {"": 4, "b": 2})
    tally.add(("a", "ok"))
    assert tally.rows() == {("b", "ok"): [2], ("a", "ok"): [1]}


def test_what_was_counted_elsewhere_is_shown_and_counted_on() -> None:
    there, here = Tally("c", "text", ("l",)), Tally("c", "text", ("l",))
    there.add(("a",), 3)
    count = here.of("a")
    here.load(there.rows())
    count.so_far += 1
    assert here.rows() == {("a",): [4]}
    spread, shown_here = Spread("h", "text", BOUNDS), Spread("h", "text", BOUNDS)
    row = shown_here.of()
    spread.add((), 0.6)
    shown_here.load(spread.rows())
    shown_here.put(row, 9)
    assert shown_here.rows() == {(): [0, 1, 0, 1, 9.6]}
    shown_here.load({(): [1.0]})
    assert shown_here.rows() == {(): [0, 1, 0, 1, 9.6]}
