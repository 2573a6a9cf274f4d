import asyncio
import time
from pathlib import Path

import pytest

from loadgen.chaos import WELL, Chaos, Command, Faults
from loadgen.ramp.observe import attainment
from loadgen.ramp.slo import Limit, Slo
from loadgen.run import run_load
from loadgen.run_values import RunSettings
from loadgen.schedule import Timing
from tests.support.chat_mock import chat_mock
from tests.support.samples import sample
from tests.support.token_mock import token_mock
from tests.support.traces import growing

FAST = Timing(think_scale=0.001, start_spread_s=0.01)


def test_shares_of_requests_are_troubled_the_same_ones_every_time() -> None:
    faults = Faults(aborts=0.2, slow_readers=0.1)
    drawn = [faults.of(("c", "", turn), 7, 100) for turn in range(4000)]
    assert drawn == [faults.of(("c", "", turn), 7, 100) for turn in range(4000)]
    names = [fault.name for fault in drawn]
    assert 0.17 < names.count("abort") / 4000 < 0.23
    assert 0.08 < names.count("slow") / 4000 < 0.12
    assert all(1 <= f.abort_bytes <= 300 for f in drawn if f.abort_bytes is not None)
    assert Faults().of(("c", "", 0), 7, 100) is WELL


async def test_clients_that_hang_up_are_no_failures_of_the_endpoint() -> None:
    async with chat_mock() as mock:
        faults = Faults(aborts=1.0)
        settings = RunSettings(mock.url, users=2, timing=FAST, faults=faults, output_tokens_max=1)
        result = await run_load(settings, [growing(f"t{n}", [64, 128]) for n in range(3)])
    assert result.record["ended_because"] == "traces played"
    assert {s.error for s in result.samples} == {"aborted"}
    assert result.summary["aborted"] == 6
    assert (result.summary["requests"], result.summary["errors"]) == (0, {})


async def test_slow_readers_take_their_time_and_it_is_not_the_endpoints() -> None:
    def play(url: str, faults: Faults) -> RunSettings:
        return RunSettings(url, users=1, timing=FAST, faults=faults, output_tokens_max=40)

    with token_mock() as url:
        traces = [growing("t", [64])]
        quick = await run_load(play(url, Faults()), traces)
        slow = await run_load(play(url, Faults(slow_readers=1.0, slow_bytes_per_s=4000)), traces)
    assert slow.summary["slow_readers"] == slow.summary["ok"] == 1
    assert slow.summary["e2e_mean_s"] is None
    took = [run.samples[0].e2e_s or 0 for run in (quick, slow)]
    assert took[1] > took[0] + 0.1


async def test_commands_run_at_their_time_and_are_written_down() -> None:
    chaos = Chaos([Command(0.1, "echo late; exit 3"), Command(0.0, "echo now")])
    began = time.monotonic()
    await chaos.run(began, began - 2.0)
    told = [(one.command, one.status, one.said) for one in chaos.happened]
    assert told == [("echo now", 0, "now"), ("echo late; exit 3", 3, "late")]
    assert [round(one.at_s, 1) >= at for one, at in zip(chaos.happened, (2.0, 2.1), strict=True)]


async def test_what_a_resumed_run_had_behind_it_is_not_done_again(tmp_path: Path) -> None:
    chaos = Chaos([Command(5.0, f"touch {tmp_path}/again")])
    await chaos.run(time.monotonic() - 60.0, 0.0)
    assert chaos.happened == []


async def test_a_command_ends_with_the_run_and_all_it_started(tmp_path: Path) -> None:
    chaos = Chaos([Command(0.0, f"(sleep 1; touch {tmp_path}/alive) & sleep 60")])
    running = asyncio.create_task(chaos.run(time.monotonic(), time.monotonic()))
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.wait([running])
    await asyncio.sleep(1.2)
    assert chaos.happened[0].status is None
    assert not (tmp_path / "alive").exists()


async def test_a_run_tells_of_its_events_beside_its_figures(tmp_path: Path) -> None:
    async with chat_mock() as mock:
        timing = Timing(think_scale=0.01, think_cap_s=10, start_spread_s=0.01)
        settings = RunSettings(
            mock.url, users=1, duration_s=0.6, timing=timing, commands=(Command(0.1, "echo hi"),)
        )
        result = await run_load(settings, [growing("t", [64, 128])], tmp_path)
    events = result.record["events"]
    assert isinstance(events, list)
    assert [(event["command"], event["said"]) for event in events] == [("echo hi", "hi")]
    assert '"said":"hi"' in (tmp_path / "report.html").read_text()


def test_a_request_given_up_is_a_miss_only_if_it_was_late_by_then() -> None:
    def gave_up(after_s: float) -> object:
        one = sample(error="aborted", t_first_token=None, t_end=1.0 + after_s)
        return attainment([one], Slo((Limit("ttft_s", 2.0),)), 1.0, 100.0)["missed"]

    assert gave_up(1.0) == 0
    assert gave_up(3.0) == 1


@pytest.mark.parametrize("bytes_per_s", [None, 1e9])
async def test_a_fast_slow_reader_is_a_reader(bytes_per_s: float | None) -> None:
    async with chat_mock() as mock:
        faults = Faults(slow_readers=1.0, slow_bytes_per_s=bytes_per_s or 1e8)
        settings = RunSettings(mock.url, users=2, timing=FAST, faults=faults)
        result = await run_load(settings, [growing(f"t{n}", [64, 128]) for n in range(3)])
    assert (result.summary["ok"], result.summary["slow_readers"]) == (6, 6)
