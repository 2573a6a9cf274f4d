from prometheus_client import CollectorRegistry, generate_latest

from kvproxy.ops.source_counters import Counted, SourceCounters


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
