import pytest

torch = pytest.importorskip("torch", reason="torch is optional: pip install kvproxy[calibrate]")

from loadgen.calibration.timing import Stopwatch, captured, own_stream  # noqa: E402


def test_medians_of_as_many_repeats_as_asked_after_warming_up() -> None:
    calls: list[int] = []
    found = Stopwatch("cpu", 3, warmups=2).time(lambda: calls.append(1))
    assert (len(calls), found.repeats) == (5, 3)
    assert 0 < found.least_s <= found.median_s <= found.most_s


def test_a_cpu_has_neither_graphs_nor_streams() -> None:
    def work() -> None: ...

    assert captured(work, "cpu") is work
    with own_stream("cpu") as stream:
        assert stream is None
