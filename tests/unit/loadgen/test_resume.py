import asyncio
import json
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from loadgen.resume import Past, ResumeError, read_past, trace_digest
from loadgen.run import RunSettings, run_load
from loadgen.sample import Sample, read_journal
from loadgen.schedule import Timing
from tests.support.chat_mock import ChatMock, answer_well, chat_mock
from tests.support.traces import growing, weka

TRACES = [growing(f"t{n}", [64, 128, 192]) for n in range(4)]
FAST = Timing(think_scale=0.001, start_spread_s=0.01)


def sample(conversation: str, turn: int, **fields: object) -> Sample:
    trace = conversation.partition("-")[0]
    return Sample(conversation, trace, turn, **fields)  # type: ignore[arg-type]


def test_what_was_cut_off_is_not_behind_us() -> None:
    past = Past.of(
        [
            sample("t0-1-0", 0, t_end=1.0),
            sample("t0-1-0", 1, t_end=2.0, error="cancelled"),
            sample("t1-1-3", 0, t_end=1.5, error="timeout"),
        ]
    )
    assert past.lasted_s == 2.0
    assert past.done == {"t0-1-0": {("", 0)}, "t1-1-3": {("", 0)}}
    assert past.plays([growing("t0", [64, 128]), growing("t1", [64])]) == {
        ("t0", 0): False,
        ("t1", 3): True,
    }


def test_only_the_same_run_is_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="no run to go on with"):
        read_past(tmp_path, {})
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"seed": 1, "url": "a"}}))
    (tmp_path / "requests.jsonl").write_bytes(b'{"conversation":"c-1-0","trace":"c","turn":0}\n{"c')
    with pytest.raises(ResumeError, match="another seed"):
        read_past(tmp_path, {"seed": 2})
    assert len(read_past(tmp_path, {"seed": 1, "url": "b"}).samples) == 1
    assert (tmp_path / "requests.jsonl").read_bytes().endswith(b"}\n")
    assert trace_digest(TRACES) != trace_digest(TRACES[1:])


async def test_a_cancelled_run_is_finished_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    settings = RunSettings("", users=2, timing=FAST)
    async with chat_mock() as mock:
        settings = RunSettings(mock.url, users=2, timing=FAST)
        enough = asyncio.Event()

        async def count(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
            if len(mock.bodies) >= 6:
                enough.set()
                await asyncio.Event().wait()
            return await answer_well(request, body)

        mock.answers = [count]
        task = asyncio.create_task(run_load(settings, TRACES, tmp_path))
        async with asyncio.timeout(10):
            await enough.wait()
        task.cancel()
        await asyncio.wait([task])
        mock.answers = [answer_well]
        result = await run_load(settings, TRACES, tmp_path, resume=True)
        other = replace(settings, model="other")
        with pytest.raises(ResumeError, match="answered by mock, here is other"):
            await run_load(other, TRACES, tmp_path, resume=True)
        with pytest.raises(ResumeError, match="another users"):
            await run_load(replace(settings, users=3), TRACES, tmp_path, resume=True)
    assert result.summary["requests"] == 12
    ended = [s for s in read_journal(tmp_path / "requests.jsonl") if s.error != "cancelled"]
    assert Counter((s.conversation, s.turn) for s in ended) == {
        (f"t{n}-1-0", turn): 1 for n in range(4) for turn in range(3)
    }
    assert all(s.bound_tokens == 64 * s.turn for s in ended)
    times = [s.t_end for s in ended if s.t_end is not None]
    assert times == sorted(times)


async def start(mock: ChatMock, traces: Path, out: Path, *more: str) -> asyncio.subprocess.Process:
    arguments = (
        "--traces", str(traces), "--url", mock.url, "--users", "3", "--think-scale", "0.0001",
        "--start-spread", "0", "--requests", "120", "--output", str(out), *more,
    )  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kvproxy", "loadgen", *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
async def test_killed_and_resumed_every_request_is_accounted_exactly_once(
    tmp_path: Path, workers: int
) -> None:
    """SIGKILL twice, at whatever request is then in flight; recycled conversations."""
    processes = ("--workers", str(workers))
    for number in range(5):
        (tmp_path / f"{number}.json").write_text(json.dumps(weka(id=f"trace_{number}")))
    out = tmp_path / "out"
    async with chat_mock() as mock:
        killed = asyncio.Event()
        stop_at = [0]

        async def answer(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
            if 0 < stop_at[0] <= len(mock.bodies):
                killed.set()
                await asyncio.Event().wait()
            # Long beside the time that workers keep to themselves what they have seen.
            await asyncio.sleep(0.01)
            return await answer_well(request, body)

        mock.answers = [answer]
        for at, more in ((31, ()), (80, ("--resume",))):
            stop_at[0] = at
            killed.clear()
            child = await start(mock, tmp_path, out, *processes, *more)
            async with asyncio.timeout(30):
                await killed.wait()
            child.send_signal(signal.SIGKILL)
            assert await child.wait() == -signal.SIGKILL
        stop_at[0] = 0
        child = await start(mock, tmp_path, out, *processes, "--resume")
        async with asyncio.timeout(30):
            assert await child.wait() in (0, 3)  # 3: a busy machine made the client late
        sent = len(mock.bodies)
    ended = read_journal(out / "requests.jsonl")
    assert len(ended) == 120
    assert max(Counter((s.conversation, s.agent, s.turn) for s in ended).values()) == 1
    assert not [s for s in ended if s.error]
    # Conversations were continued, not begun anew: none has a gap, and only the last are open.
    turns = Counter(s.conversation for s in ended)
    assert all(
        {s.turn for s in ended if s.conversation == name} == set(range(count))
        for name, count in turns.items()
    )
    assert sum(count < 2 for count in turns.values()) <= 3
    # Only what was in flight at a kill, at most one request a user, was sent again; and what
    # workers had not told of yet, or went on to send before they knew.
    assert 120 <= sent <= 120 + 2 * 3 + (20 if workers > 1 else 0)
    assert json.loads((out / "run.json").read_bytes())["summary"]["requests"] == 120


@pytest.mark.parametrize("record", [b"[]", b"{}", b'{"settings": 1}', b"\xff"])
def test_a_record_that_is_none_is_named(tmp_path: Path, record: bytes) -> None:
    (tmp_path / "run.json").write_bytes(record)
    (tmp_path / "requests.jsonl").write_bytes(b"")
    with pytest.raises(ResumeError, match="no run to go on with"):
        read_past(tmp_path, {})


def test_a_damaged_journal_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"settings": {}}))
    whole = b'{"conversation":"c-1-0","trace":"c","turn":0}\n'
    (tmp_path / "requests.jsonl").write_bytes(whole + b"\x00\x00\n" + whole)
    with pytest.raises(ResumeError, match="damaged: line 2"):
        read_past(tmp_path, {})
