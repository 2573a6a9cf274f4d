from prometheus_client import CollectorRegistry, generate_latest

from kvproxy.background import failures
from kvproxy.ops.source_counters import Counted, SourceCounters, failed_work


def test_figures_of_one_name_are_one_family() -> None:
    registry = CollectorRegistry()
    counted = [
        Counted("gaps", "Gaps", {"replica": "a"}, 1),
        Counted("heard", "Heard", {}, 1, gauge=True),
        Counted("gaps", "Gaps", {"replica": "b"}, 2),
    ]
    registry.register(SourceCounters(lambda: counted))
    lines = generate_latest(registry).decode().splitlines()
    assert 'gaps_total{replica="a"} 1.0' in lines
    assert 'gaps_total{replica="b"} 2.0' in lines
    assert "# TYPE heard gauge" in lines
    assert "heard 1.0" in lines
    assert lines.count("# TYPE gaps_total counter") == 1


def test_work_in_the_background_is_counted_by_what_it_is() -> None:
    failures.clear()
    failures.update(probe=2, events=0)
    told = [(each.labels["task"], each.value) for each in failed_work()]
    assert told == [("events", 0), ("probe", 2)]
    failures.clear()
