import csv
from pathlib import Path

from loadgen.output.tables import PERIOD_S, write_tables
from loadgen.output.timeline import timeline
from tests.support.samples import sample


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_columns_have_the_names_that_tools_know(tmp_path: Path) -> None:
    samples = [sample(), sample(agent="a1", error="timeout", t_end=None, t_sent=None)]
    write_tables(tmp_path, samples, timeline(samples, 10.0, 6.0, PERIOD_S), 10.0, {"c": 1})
    first, second = rows(tmp_path / "detailed_results.csv")
    assert (first["user_id"], first["trace_id"], first["request_type"]) == ("c-1-0", "c", "parent")
    assert (first["ttft"], first["effective_ttft"], first["queue_time"][:4]) == (
        "0.4",
        "0.5",
        "1.00",
    )
    assert (first["cache_hit_blocks"], first["cache_miss_blocks"]) == ("12", "3")
    assert (first["success"], float(first["ttlt"])) == ("True", 10.0)
    assert (second["trace_id"], second["error_message"], second["ttlt"]) == ("c:a1", "timeout", "")
    periods = rows(tmp_path / "summary_trace_replay.csv")
    assert [row["period_number"] for row in periods] == ["1", "2"]
    assert periods[0]["requests_launched"] == "2"
    assert periods[0]["avg_cache_hit_rate"] == "0.8"
    assert periods[1]["ttft_avg"] == ""
    users = rows(tmp_path / "user_lifecycle.csv")
    assert list(users[0]) == ["timestamp", "user_id", "event_type", "trace_id", "details"]
    assert [(row["user_id"], row["event_type"]) for row in users] == [
        ("c-1-0", "started"), ("c-1-0.a1", "started"),
        ("c-1-0.a1", "completed"), ("c-1-0", "completed"),
    ]  # fmt: skip


def test_nothing_ended(tmp_path: Path) -> None:
    write_tables(tmp_path, [], timeline([], 1.0, 0.0, PERIOD_S), 1.0, {})
    assert rows(tmp_path / "detailed_results.csv") == []
    header = (tmp_path / "user_lifecycle.csv").read_text()
    assert header.strip() == "timestamp,user_id,event_type,trace_id,details"


def test_cells_of_what_nobody_said_are_empty(tmp_path: Path) -> None:
    samples = [sample(cached_tokens=None)]
    write_tables(tmp_path, samples, timeline(samples, 1.0, 6.0, PERIOD_S), 1.0, {"c": 1})
    (row,) = rows(tmp_path / "detailed_results.csv")
    assert (row["cache_hit_blocks"], row["cache_miss_blocks"]) == ("", "")
    (period,) = rows(tmp_path / "summary_trace_replay.csv")
    assert period["avg_cache_hit_rate"] == ""


def test_what_was_cut_has_a_user_and_no_request(tmp_path: Path) -> None:
    samples = [sample(error="cancelled", t_first_token=None, t_end=5.0)]
    write_tables(tmp_path, samples, timeline(samples, 1.0, 6.0, PERIOD_S), 1.0, {"c": 1})
    assert rows(tmp_path / "detailed_results.csv") == []
    (period,) = rows(tmp_path / "summary_trace_replay.csv")
    assert (period["requests_launched"], period["requests_completed"]) == ("1", "0")
    users = rows(tmp_path / "user_lifecycle.csv")
    assert [(row["timestamp"], row["event_type"]) for row in users] == [
        ("1.0", "started"), ("5.0", "truncated"),
    ]  # fmt: skip
