"""CSV files with kv-cache-tester's column names, so that what reads its results reads ours.

Times are engine seconds. Columns of its own inner workings that nothing here corresponds to are
left out; input tokens are the recorded ones, as there. What was cut off when the run ended has no
row of its own, as there, but its user has; a cell of what nobody said is empty.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from loadgen.output.lifecycle import COLUMNS, lifecycle
from loadgen.output.timeline import Period, quantiles
from loadgen.sample import Sample

PERIOD_S = 30.0
_BLOCK = 64

Row = dict[str, object]


def write_tables(
    folder: Path,
    samples: Sequence[Sample],
    periods: Sequence[Period],
    time_scale: float,
    turns: Mapping[str, int],
) -> None:
    """detailed_results.csv, summary_trace_replay.csv and user_lifecycle.csv; `periods` of
    PERIOD_S, `turns` as `turns_of` says."""
    told = any(sample.cached_tokens is not None for sample in samples)
    ended = [sample for sample in samples if sample.error != "cancelled"]
    requests = [_request(sample, time_scale, told=told) for sample in ended]
    _write(folder / "detailed_results.csv", requests)
    _write(folder / "summary_trace_replay.csv", list(_periods(periods)))
    users = lifecycle(samples, turns, time_scale)
    _write(folder / "user_lifecycle.csv", users, COLUMNS)


def _request(sample: Sample, scale: float, *, told: bool) -> Row:
    prompt = sample.prompt_tokens if told else None
    hit = None if prompt is None else (sample.cached_tokens or 0) // _BLOCK
    sent, first, end = sample.t_sent, sample.t_first_token, sample.t_end
    queued = None if sent is None else (sent - sample.t_intended) * scale
    ttlt = None if end is None else (end - sample.t_intended) * scale
    return {
        "user_id": sample.conversation,
        "request_idx": sample.turn,
        "trace_id": f"{sample.trace}:{sample.agent}" if sample.agent else sample.trace,
        "timestamp": sample.t_intended * scale,
        "request_type": "subagent" if sample.agent else "parent",
        "input_tokens": sample.trace_tokens,
        "output_tokens_expected": sample.output_tokens_asked,
        "output_tokens_actual": sample.completion_tokens,
        "cache_hit_blocks": hit,
        "cache_miss_blocks": None if hit is None else max(0, (prompt or 0) // _BLOCK - hit),
        "ttft": sample.ttft_wire_s,
        "ttlt": ttlt,
        "itl": sample.itl_s,
        "delay_actual": queued,
        "success": sample.ok,
        "error_message": sample.error_detail or sample.error,
        "queue_time": queued,
        "effective_ttft": sample.ttft_s,
        "request_start_time": None if sent is None else sent * scale,
        "prefill_complete_time": None if first is None else first * scale,
        "request_complete_time": None if end is None else end * scale,
        "replica": sample.replica,
        "predicted_cached_tokens": sample.predicted_cached_tokens,
        "cached_tokens": sample.cached_tokens,
    }


def _periods(periods: Sequence[Period]) -> Iterator[Row]:
    for number, period in enumerate(periods, 1):
        p50, p95, p99 = quantiles(period.ttfts_s, 0.5, 0.95, 0.99)
        ttfts, prompt = period.ttfts_s, period.prompt_tokens
        yield {
            "period_number": number,
            "start_time": period.start_s,
            "end_time": period.end_s,
            "users_with_requests": len(period.users),
            "requests_completed": period.ended,
            "requests_failed": period.failed,
            "requests_launched": period.sent,
            "requests_in_progress": period.in_flight,
            "requests_per_second": period.ended / period.length_s,
            "input_tokens_per_second": prompt / period.length_s,
            "output_tokens_per_second": period.output_tokens / period.length_s,
            "ttft_avg": sum(ttfts) / len(ttfts) if ttfts else None,
            "ttft_p50": p50,
            "ttft_p95": p95,
            "ttft_p99": p99,
            "avg_cache_hit_rate": period.hit_rate,
            "working_set_blocks": period.working_set[900.0] // _BLOCK,
        }


def _write(path: Path, rows: Sequence[Row], columns: Sequence[str] = ()) -> None:
    """Without rows only `columns`, where they are known."""
    with path.open("w", newline="") as file:
        if names := columns or (list(rows[0]) if rows else []):
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
