"""Counters of several processes as those of one."""

from pathlib import Path

import pytest

from kvproxy.ops.merge import WorkerFigures, hop_alone, hop_seconds, plain
from kvproxy.ops.tally import Spread, Tally


def figures(requests: float) -> dict[str, list[tuple[list[str], list[float]]]]:
    tally, spread = Tally("requests", "text", ("replica",)), Spread("ttft", "text", (1.0,))
    tally.add(("r0",), requests)
    spread.add((), 0.5)
    return plain({"requests": tally.rows(), "ttft": spread.rows()})


def test_sums_keep_labels_and_never_go_down(tmp_path: Path) -> None:
    merged = WorkerFigures(tmp_path / "figures")
    merged.heard("a", figures(2))
    merged.heard("b", figures(3))
    assert merged.total() == {"requests": {("r0",): [5]}, "ttft": {(): [2.0, 0.0, 1.0]}}
    # a has ended and c began in its place.
    merged.heard("c", figures(1))
    assert merged.total()["requests"] == {("r0",): [6]}
    merged.heard("b", figures(4))
    assert merged.total()["requests"] == {("r0",): [7]}


def test_they_outlive_the_process_that_adds_them_up(tmp_path: Path) -> None:
    merged = WorkerFigures(tmp_path / "figures")
    merged.heard("a", figures(2))
    merged.heard("b", figures(3))
    merged.save()
    again = WorkerFigures(tmp_path / "figures")
    assert again.total() == merged.total()
    again.heard("b", figures(4))
    assert again.total()["requests"] == {("r0",): [6]}


def test_workers_without_number_take_no_more_room(tmp_path: Path) -> None:
    merged = WorkerFigures(tmp_path / "figures")
    for number in range(300):
        merged.heard(f"w{number}", figures(1))
    assert merged.total()["requests"] == {("r0",): [300]}
    assert len(merged._said) <= 65


def test_what_is_loaded_is_shown() -> None:
    seconds, alone = hop_seconds(), hop_alone()
    seconds.add((), 0.0001)
    alone.add(("lost",))
    other = hop_alone()
    other.load(alone.rows())
    assert other.rows() == {("lost",): [1]}
    shown = hop_seconds()
    shown.load(seconds.rows())
    shown.load({(): [1.0]})
    assert shown.rows() == seconds.rows()


def test_a_disk_that_is_full_keeps_nobody_from_counting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    merged = WorkerFigures(tmp_path / "gone" / "figures")
    merged.heard("a", figures(2))
    merged.save()
    assert "are not kept" in caplog.text
    assert merged.total()["requests"] == {("r0",): [2]}
