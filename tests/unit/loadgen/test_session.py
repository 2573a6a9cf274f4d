import asyncio
import json
import time

import pytest
from aiohttp import web

from loadgen.bound import InfiniteCache
from loadgen.client import Client, ClientSettings
from loadgen.content import Prompt
from loadgen.plan import ContentSettings, Plans
from loadgen.sample import Sample
from loadgen.schedule import Timing
from loadgen.session import Asking, Gate, Session, Stage
from loadgen.text import WordPool
from loadgen.traces.model import SubAgent, Trace
from loadgen.wire import Endpoint, Wire
from tests.support.chat_mock import Answer, ChatMock, answer_well, chat_mock
from tests.support.traces import growing, trace, turn


async def play(
    made: Trace,
    *answers: Answer,
    requests: int | None = None,
    asking: Asking | None = None,
    first_turn: int = 0,
) -> tuple[list[Sample], ChatMock, Gate]:
    ended: list[Sample] = []
    gate = Gate(requests)
    async with chat_mock(*answers) as mock:
        wire = Wire(Endpoint(mock.url))
        stage = Stage(
            client=Client(wire, ClientSettings(), time.monotonic()),
            gate=gate,
            asking=asking or Asking("m"),
            timing=Timing(think_scale=0.001),
            pool=WordPool(1),
            plans=Plans(ContentSettings()),
            cache=InfiniteCache(16),
            sent=lambda sample: None,
            ended=ended.append,
        )
        try:
            await Session(stage, made, 0, first_turn).run(time.monotonic())
        finally:
            wire.close()
    return ended, mock, gate


async def test_turns_follow_each_other_with_the_session_id() -> None:
    samples, mock, _ = await play(growing("a", [64, 128, 192]))
    assert [(s.turn, s.prompt_tokens, s.trace_tokens) for s in samples] == [
        (0, 64, 64),
        (1, 128, 128),
        (2, 192, 192),
    ]
    assert [s.bound_tokens for s in samples] == [0, 64, 128]
    assert mock.in_flight_max == 1
    assert {headers["x-session-id"] for headers in mock.headers} == {"a-1-0"}
    assert [s.lag_s is not None and s.lag_s >= 0 for s in samples] == [True] * 3


async def test_a_body_asks_for_the_recorded_length() -> None:
    made = trace(
        [turn(64, [1, 2, 3, 4], output_tokens=50), turn(64, [1, 2, 3, 4], output_tokens=0)]
    )
    _, mock, _ = await play(made, asking=Asking("m", output_tokens_max=30))
    assert [body["max_tokens"] for body in mock.bodies] == [30, 1]
    assert [body["min_tokens"] for body in mock.bodies] == [30, 1]
    assert mock.bodies[0]["ignore_eos"] is True
    assert mock.bodies[0]["stream_options"] == {"include_usage": True}


def test_other_endpoints_are_not_asked_for_engine_extras() -> None:
    body = json.loads(Asking("m", engine_extras=False).body(Prompt([b'{"role":"user"}'], 9), 5))
    assert not {"min_tokens", "ignore_eos"} & body.keys()
    assert body["messages"] == [{"role": "user"}]


def agent(name: str, waits: bool) -> SubAgent:
    return SubAgent(name, 0.0, (turn(64, range(100, 104)), turn(80, range(100, 105))), 0, waits)


async def test_the_parent_waits_for_sub_agents_that_it_waited_for() -> None:
    made = trace([turn(64, range(1, 5)), agent("s", True), turn(80, range(1, 6))])
    samples, mock, _ = await play(made)
    assert [(s.agent, s.turn) for s in samples] == [("", 0), ("s", 0), ("s", 1), ("", 1)]
    inner = [h for h in mock.headers if h["x-session-id"] == "t-1-0.s"]
    assert len(inner) == 2
    assert {h["x-parent-session-id"] for h in inner} == {"t-1-0"}


async def test_a_parent_is_due_when_its_sub_agents_had_ended_however_late_that_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait = asyncio.wait

    async def see_late(tasks: list[asyncio.Task[object]]) -> object:
        done = await wait(tasks)
        time.sleep(0.05)  # noqa: ASYNC251  # the loop is busy with something else
        return done

    monkeypatch.setattr("loadgen.session.asyncio.wait", see_late)
    made = trace([turn(64, range(1, 5)), agent("s", True), turn(80, range(1, 6))])
    samples, _, _ = await play(made)
    inner, last = samples[-2], samples[-1]
    assert (inner.agent, last.agent) == ("s", "")
    assert last.t_intended == pytest.approx(inner.t_end, abs=0.01)
    assert last.lag_s is not None
    assert last.lag_s >= 0.05


async def test_names_that_no_header_can_hold_are_escaped() -> None:
    inner = SubAgent("ä\r\nX-Evil: 1", 0.0, (turn(64, range(100, 104)),), 0)
    samples, mock, _ = await play(trace([turn(64, range(1, 5)), inner], name="имя 100%"))
    assert [sample.error for sample in samples] == ["", ""]
    name = "%D0%B8%D0%BC%D1%8F 100%-1-0"
    assert [headers["x-session-id"] for headers in mock.headers] == [
        name,
        f"{name}.%C3%A4%0D%0AX-Evil: 1",
    ]
    assert "x-evil" not in mock.headers[1]


async def test_a_conversation_may_begin_at_a_later_turn() -> None:
    made = trace(
        [
            turn(64, range(1, 5)), agent("early", True), turn(80, range(1, 6)),
            agent("late", True), turn(96, range(1, 7)),
        ]
    )  # fmt: skip
    samples, _, _ = await play(made, first_turn=1)
    assert [(s.agent, s.turn) for s in samples] == [("", 1), ("late", 0), ("late", 1), ("", 2)]
    assert [s.prompt_tokens for s in samples if not s.agent] == [80, 96]


async def test_the_parent_does_not_wait_for_an_asynchronous_sub_agent() -> None:
    held = asyncio.Event()

    parent_turns = 0

    async def answer(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        nonlocal parent_turns
        if request.headers["X-Session-ID"].endswith(".s"):
            await held.wait()
        else:
            parent_turns += 1
            if parent_turns == 2:
                held.set()
        return await answer_well(request, body)

    made = trace([turn(64, range(1, 5)), agent("s", False), turn(80, range(1, 6))])
    samples, _, _ = await play(made, answer)
    assert len(samples) == 4
    assert all(sample.ok for sample in samples)


async def test_an_error_advances_the_conversation() -> None:
    async def refuse(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        raise web.HTTPBadRequest

    samples, _, _ = await play(growing("a", [64, 128]), refuse, answer_well)
    assert [s.error for s in samples] == ["http_4xx", ""]


async def test_the_request_budget_ends_the_run() -> None:
    samples, _, gate = await play(growing("a", [64, 128, 192]), requests=2)
    assert len(samples) == 2
    assert (gate.closed, gate.reason) == (True, "requests sent")


async def test_a_closed_gate_wakes_those_who_think() -> None:
    gate = Gate()
    waiting = asyncio.create_task(gate.wait_until(time.monotonic() + 3600))
    await asyncio.sleep(0)
    gate.close("over")
    gate.close("too late")
    assert await asyncio.wait_for(waiting, 5) is False
    assert gate.reason == "over"
    assert not gate.enter()


async def test_an_own_bug_is_not_hidden_in_a_group() -> None:
    def fail(sample: Sample) -> None:
        raise RuntimeError("bug")

    async with chat_mock() as mock:
        wire = Wire(Endpoint(mock.url))
        stage = Stage(
            Client(wire, ClientSettings(), time.monotonic()), Gate(), Asking("m"), Timing(),
            WordPool(1), Plans(ContentSettings()), InfiniteCache(16), fail, lambda sample: None,
        )  # fmt: skip
        with pytest.raises(RuntimeError, match="bug"):
            await Session(stage, growing("a", [64]), 0).run(time.monotonic())
        wire.close()
