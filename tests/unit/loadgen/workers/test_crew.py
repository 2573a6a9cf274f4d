"""Runs of several worker processes against the same mock as runs of one."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from loadgen.ramp.certify import CertifyRule
from loadgen.ramp.slo import Limit, Slo
from loadgen.run import run_load
from loadgen.run_values import RunSettings
from loadgen.sample import Sample, read_journal
from loadgen.schedule import Timing
from loadgen.workers.crew import Crew, WorkerError
from tests.support.chat_mock import answer_well, chat_mock
from tests.support.traces import growing

TRACES = [growing(f"t{n}", [64, 128, 192]) for n in range(6)]
FAST = Timing(think_scale=0.001, start_spread_s=0.01)


def what(samples: list[Sample]) -> list[tuple[object, ...]]:
    """All that the settings and the seed decide."""
    return sorted(
        (s.conversation, s.agent, s.turn, s.trace_tokens, s.planned_tokens, s.bound_tokens)
        for s in samples
    )


async def test_they_send_what_one_would_and_all_is_merged(tmp_path: Path) -> None:
    async with chat_mock() as mock:
        alone = await run_load(RunSettings(mock.url, users=4, timing=FAST), TRACES)
        bodies, mock.bodies = mock.bodies, []
        settings = RunSettings(mock.url, users=4, timing=FAST, workers=2)
        both = await run_load(settings, TRACES, tmp_path)
        assert sorted(map(str, mock.bodies)) == sorted(map(str, bodies))
    assert what(both.samples) == what(alone.samples)
    assert both.summary["requests"] == 18
    assert {s.worker for s in both.samples} == {0, 1}
    journal = read_journal(tmp_path / "requests.jsonl")
    assert sorted(s.key for s in journal) == sorted(s.key for s in both.samples)
    assert all(sample.chunks for sample in journal)
    # Percentiles are those of all samples.
    ttfts = sorted(s.ttft_s for s in both.samples if s.ttft_s is not None)
    assert both.summary["ttft_max_s"] == ttfts[-1]
    assert both.summary["ttft_mean_s"] == pytest.approx(sum(ttfts) / 18)
    client = both.summary["client"]
    assert isinstance(client, dict)
    assert len(client["workers"]) == 2
    assert client["lag_p99_s"] == max(one["lag_p99_s"] for one in client["workers"])
    assert client["valid"] == all(one["valid"] for one in client["workers"])


async def test_a_budget_of_requests_is_kept_exactly() -> None:
    async with chat_mock() as mock:
        settings = RunSettings(mock.url, users=3, requests=31, timing=FAST, workers=2)
        result = await run_load(settings, TRACES)
        assert len(mock.bodies) == 31
    assert result.summary["requests"] == 31
    assert result.record["ended_because"] == "requests sent"
    assert max(Counter(s.key for s in result.samples).values()) == 1


async def test_one_ramp_leads_them_all() -> None:
    async with chat_mock() as mock:
        rule = CertifyRule(
            Slo((Limit("ttft_s", 900.0),)), users_max=5, users_first=2,
            settle_s=1, window_s=20, hold_s=40,
        )  # fmt: skip
        timing = Timing(think_scale=0.01, think_cap_s=100, time_scale=40, start_spread_s=1)
        traces = [growing(f"t{n}", [64 * (k + 1) for k in range(40)]) for n in range(6)]
        settings = RunSettings(mock.url, users=2, ramp=rule, timing=timing, workers=2, grace_s=2)
        result = await run_load(settings, traces)
    ramp = result.record["ramp"]
    assert isinstance(ramp, dict)
    assert ramp["users"] == 5
    assert result.record["ended_because"] == "ramp done"
    assert {s.worker for s in result.samples} == {0, 1}


async def test_killed_workers_end_the_run_and_it_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crews: list[Crew] = []
    made = Crew.__init__

    def remember(self: Crew, *arguments: object) -> None:
        crews.append(self)
        made(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Crew, "__init__", remember)

    async def count(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        if len(mock.bodies) == 10:
            os.kill(crews[0]._workers[1].child.pid, signal.SIGKILL)
        return await answer_well(request, body)

    async with chat_mock() as mock:
        settings = RunSettings(mock.url, users=4, requests=60, timing=FAST, workers=2)
        mock.answers = [count]
        with pytest.raises(WorkerError, match="worker 1 ended early"):
            await run_load(settings, TRACES, tmp_path)
        assert crews[0]._workers[0].child.returncode is not None
        mock.answers = [answer_well]
        result = await run_load(settings, TRACES, tmp_path, resume=True)
    assert result.summary["requests"] == 60
    ended = [s for s in read_journal(tmp_path / "requests.jsonl") if s.error != "cancelled"]
    assert len(ended) == 60
    assert max(Counter(s.key for s in ended).values()) == 1
    assert json.loads((tmp_path / "run.json").read_bytes())["summary"]["requests"] == 60


async def test_a_run_that_is_cancelled_leaves_no_worker() -> None:
    async with chat_mock() as mock:
        settings = RunSettings(mock.url, users=2, duration_s=60, timing=FAST, workers=2)
        task = asyncio.create_task(run_load(settings, TRACES))
        await mock.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sent = len(mock.bodies)
        await asyncio.sleep(0.1)
        assert len(mock.bodies) == sent
