import asyncio
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from loadgen.arrivals import Arrivals
from loadgen.probe import EndpointError
from loadgen.run import Progress, RunSettings, run_load
from loadgen.run_values import Breaker
from loadgen.sample import read_journal
from loadgen.schedule import Timing
from tests.support.chat_mock import answer_well, chat_mock, silence
from tests.support.traces import growing

TRACES = [growing(f"t{n}", [64, 128, 192]) for n in range(4)]
FAST = Timing(think_scale=0.001, start_spread_s=0.01)


async def test_every_trace_is_played_once_and_written_down(tmp_path: Path) -> None:
    async with chat_mock() as mock:
        settings = RunSettings(mock.url, users=2, timing=FAST, api_key="secret")
        result = await run_load(settings, TRACES, tmp_path)
        assert mock.in_flight_max <= 2
        assert mock.headers[0]["authorization"] == "Bearer secret"
        assert mock.headers[0]["x-kvproxy-decision"] == "1"
    assert result.summary["requests"] == 12
    assert result.summary["conversations"] == 4
    assert result.record["ended_because"] == "traces played"
    record = orjson.loads((tmp_path / "run.json").read_bytes())
    assert record["settings"]["model"] == "mock"
    assert record["summary"]["fidelity"]["exact"] == 1.0
    assert b"secret" not in (tmp_path / "run.json").read_bytes()
    samples = read_journal(tmp_path / "requests.jsonl")
    assert len(samples) == 12
    assert all(sample.chunks for sample in samples)


async def test_requests_bound_the_run_and_traces_are_recycled() -> None:
    async with chat_mock() as mock:
        settings = RunSettings(mock.url, users=2, requests=30, timing=FAST)
        result = await run_load(settings, TRACES)
    assert result.summary["requests"] == 30
    assert result.record["ended_because"] == "requests sent"
    assert result.summary["conversations"] == len({s.conversation for s in result.samples})
    assert int(str(result.summary["conversations"])) >= 10


async def test_at_the_end_what_is_in_flight_is_cut_and_counted() -> None:
    async with chat_mock(answer_well, silence) as mock:
        settings = RunSettings(mock.url, users=2, duration_s=0.3, grace_s=0.05, timing=FAST)
        result = await run_load(settings, TRACES)
    assert result.record["ended_because"] == "duration over"
    assert result.summary["cancelled"] == 2
    assert result.summary["requests"] == 1
    assert result.summary["error_rate"] == 0


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    traces = [replace(one, start_s=0.01 * n) for n, one in enumerate(TRACES)]
    async with chat_mock(silence) as mock:
        arrivals = Arrivals("recorded")
        settings = RunSettings(
            mock.url, users=1, grace_s=0.1, duration_s=1.5, timing=FAST, arrivals=arrivals
        )
        result = await run_load(settings, traces)
        assert mock.in_flight_max == len(traces)
    assert result.summary["cancelled"] == len(traces)


async def test_first_users_may_begin_in_the_middle() -> None:
    async with chat_mock() as mock:
        timing = replace(FAST, advance=(0.5, 0.5))
        result = await run_load(RunSettings(mock.url, users=4, timing=timing), TRACES)
    assert sorted(sample.turn for sample in result.samples) == [1, 1, 1, 1, 2, 2, 2, 2]


async def test_a_dead_endpoint_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("loadgen.session.FAILURE_PAUSE_S", 0.0)

    async def hang_up(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with chat_mock(hang_up) as mock:
        settings = RunSettings(mock.url, users=1, timing=FAST, breaker=Breaker(3))
        with pytest.raises(EndpointError, match="3 requests in a row failed; the last: disconnect"):
            await run_load(settings, TRACES, tmp_path)
    # What it had is told all the same.
    assert (tmp_path / "report.html").exists()
    record = orjson.loads((tmp_path / "run.json").read_bytes())
    assert (record["ended_because"], record["summary"]["error_rate"]) == ("endpoint lost", 1.0)


async def test_nobody_there(unused_tcp_port: int) -> None:
    with pytest.raises(EndpointError):
        await run_load(RunSettings(f"http://127.0.0.1:{unused_tcp_port}"), TRACES)


async def test_cancelling_keeps_the_journal(tmp_path: Path) -> None:
    silent = asyncio.Event()

    async def hold(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        silent.set()
        return await silence(request, body)

    async with chat_mock(answer_well, hold) as mock:
        settings = RunSettings(mock.url, users=1, duration_s=60, timing=FAST)
        (tmp_path / "report.html").write_text("of another run")
        started: list[Progress] = []
        task = asyncio.create_task(run_load(settings, TRACES, tmp_path, started.append))
        async with asyncio.timeout(10):
            await silent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [s.error for s in read_journal(tmp_path / "requests.jsonl")] == ["", "cancelled"]
    assert started[0].in_flight == 0
    assert not (tmp_path / "report.html").exists()


async def test_equal_seeds_send_equal_requests() -> None:
    async def sent(seed: int) -> list[str]:
        async with chat_mock() as mock:
            await run_load(RunSettings(mock.url, users=1, seed=seed, timing=FAST), TRACES)
            return [str(body["messages"]) for body in mock.bodies]

    assert await sent(1) == await sent(1)
    assert await sent(1) != await sent(2)


async def test_what_is_due_while_engines_warm_up_is_in_no_figure(tmp_path: Path) -> None:
    async with chat_mock() as mock:
        settings = RunSettings(mock.url, users=2, duration_s=0.6, warm_up_s=0.3, timing=FAST)
        result = await run_load(settings, TRACES, tmp_path)
    warm_up = result.summary["warm_up"]
    assert isinstance(warm_up, dict)
    assert 0 < warm_up["requests"] < len(result.samples)
    assert result.summary["requests"] == len(result.samples) - warm_up["requests"]
    assert len(read_journal(tmp_path / "requests.jsonl")) == len(result.samples)
