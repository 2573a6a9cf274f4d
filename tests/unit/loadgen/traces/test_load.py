import gzip
from pathlib import Path

import pytest

from loadgen.traces import load
from loadgen.traces.errors import TraceError
from loadgen.traces.load import RowFormat, load_traces
from loadgen.traces.packed import write_packed
from loadgen.traces.rows import Labels
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
    with pytest.raises(TraceError, match="more than 10 bytes"):
        load_traces(tmp_path)


def test_real_traces_load_whole_and_cut() -> None:
    folder = shared_path("traces", "traces")
    whole = load_traces(folder)
    assert len(whole) == 30
    assert sum(len(trace.turns) for trace in whole) == 1604
    assert len(load_traces(folder, 128_000)) == 27


def test_compressed_and_packed_files_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(weka_bytes())
    traces = load_traces(tmp_path)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(weka_bytes()))
    assert load_traces(tmp_path / "b.jsonl.gz") == traces
    write_packed(traces, tmp_path / "c.jsonl")
    assert load_traces(tmp_path / "c.jsonl") == traces


def test_a_mark_of_the_encoding_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + weka_bytes())
    assert [made.id for made in load_traces(tmp_path)] == ["trace_1"]


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(weka_bytes())[:-9])
    with pytest.raises(TraceError, match=r"x\.json\.gz"):
        load_traces(tmp_path)


def test_a_file_of_rows_takes_its_labels(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"at": 0, "tokens": 40, "answer": 5, "blocks": [1, 2, 3]}\n')
    labels = Labels("at", "tokens", "answer", "blocks")
    (made,) = load_traces(file, rows=RowFormat(labels))
    assert (made.block_size, made.turns[0].input_tokens, made.shared_ids) == (16, 40, True)
