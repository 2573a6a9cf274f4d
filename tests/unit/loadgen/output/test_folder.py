from pathlib import Path

from loadgen.output.folder import write_folder
from tests.support.made_run import DURATION_S, made_run


def test_every_file_is_written(tmp_path: Path) -> None:
    record, samples, scrapes = made_run()
    write_folder(
        tmp_path, record, samples, scrapes, time_scale=1.0, duration_s=DURATION_S, turns={}
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.html", "metrics.prom", "detailed_results.csv", "summary_trace_replay.csv",
        "user_lifecycle.csv", "replica_metrics.jsonl",
    }  # fmt: skip
    assert len((tmp_path / "replica_metrics.jsonl").read_bytes().splitlines()) == len(scrapes)
    assert len((tmp_path / "detailed_results.csv").read_text().splitlines()) == 1201
