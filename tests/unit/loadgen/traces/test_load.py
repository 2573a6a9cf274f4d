from pathlib import Path

import pytest

from loadgen.traces import load
from loadgen.traces.load import load_traces
from loadgen.traces.weka import TraceError
from tests.support.shared import shared_path
from tests.support.traces import weka_bytes


def test_a_directory_of_json_and_jsonl_sorted_by_id(tmp_path: Path) -> None:
    (tmp_path / "z.json").write_bytes(weka_bytes(id="b"))
    lines = weka_bytes(id="c") + b"\n\n" + weka_bytes(id="a") + b"\n"
    (tmp_path / "y.jsonl").write_bytes(lines)
    (tmp_path / "README").write_text("not a trace")
    assert [trace.id for trace in load_traces(tmp_path)] == ["a", "b", "c"]


def test_one_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(weka_bytes())
    assert len(load_traces(tmp_path / "x.json")) == 1


def test_cut_to_the_context_window(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(weka_bytes())
    assert [len(trace.turns) for trace in load_traces(tmp_path, 150)] == [1]
    with pytest.raises(TraceError, match="larger than 100 tokens"):
        load_traces(tmp_path, 100)


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(weka_bytes() + b"\n{}\n")
    with pytest.raises(TraceError, match=r"^x\.jsonl:2: "):
        load_traces(tmp_path)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no traces found"):
        load_traces(tmp_path)
    with pytest.raises(TraceError, match="no such file"):
        load_traces(tmp_path / "absent")


def test_equal_ids_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(weka_bytes())
    (tmp_path / "y.json").write_bytes(weka_bytes())
    with pytest.raises(TraceError, match="two traces have the id 'trace_1'"):
        load_traces(tmp_path)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.json").write_bytes(weka_bytes())
    monkeypatch.setattr(load, "FILE_BYTES_MAX", 10)
    with pytest.raises(TraceError, match="the limit is 10"):
        load_traces(tmp_path)


def test_real_traces_load_whole_and_cut() -> None:
    folder = shared_path("traces", "traces")
    whole = load_traces(folder)
    assert len(whole) == 30
    assert sum(len(trace.turns) for trace in whole) == 1604
    assert len(load_traces(folder, 128_000)) == 27
