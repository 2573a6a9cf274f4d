"""The files beside run.json and requests.jsonl, written when a run has ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from loadgen.output.html import page
from loadgen.output.prometheus import exposition
from loadgen.output.scrape import Scraped
from loadgen.output.tables import PERIOD_S, write_tables
from loadgen.output.timeline import timeline
from loadgen.sample import Sample

RESULTS = (
    "report.html", "metrics.prom", "detailed_results.csv", "summary_trace_replay.csv",
    "user_lifecycle.csv", "replica_metrics.jsonl",
)  # fmt: skip
# As many points as a chart can show, but no period shorter than this.
POINTS_MAX = 90
PERIOD_MIN_S = 2.0


def clear_folder(folder: Path) -> None:
    """Nothing is left of a run before: should this one not come to its end, the folder must not
    show another's figures."""
    for name in RESULTS:
        (folder / name).unlink(missing_ok=True)


def write_folder(
    folder: Path,
    record: Mapping[str, object],
    samples: Sequence[Sample],
    scrapes: Sequence[Scraped],
    *,
    time_scale: float,
    duration_s: float,
    turns: Mapping[str, int],
) -> None:
    """`duration_s` real seconds from the start that samples count from; `turns` as `turns_of`
    says."""
    summary = record["summary"]
    assert isinstance(summary, Mapping)
    period_s = max(PERIOD_MIN_S, duration_s * time_scale / POINTS_MAX)
    periods = timeline(samples, time_scale, duration_s, period_s)
    (folder / "report.html").write_text(page(record, periods, scrapes, time_scale), "utf-8")
    (folder / "metrics.prom").write_text(exposition(summary), "utf-8")
    table = timeline(samples, time_scale, duration_s, PERIOD_S)
    write_tables(folder, samples, table, time_scale, turns)
    if scrapes:
        lines = [msgspec.json.encode(scrape) + b"\n" for scrape in scrapes]
        (folder / "replica_metrics.jsonl").write_bytes(b"".join(lines))
