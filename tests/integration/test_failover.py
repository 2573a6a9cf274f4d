"""Replicas that are dead, die or come back: before the first byte another one answers, after it
the client is told."""

import asyncio

import orjson
import pytest

from kvproxy.core.life_cycle import Health
from loadgen.emulator import EmulatorSettings, Fleet
from loadgen.emulator.replica import Replica
from tests.support.proxies import eventually, proxied, settled
from tests.support.recording import Mark, Piece, answer, recording
from tests.support.wire import ask, post, request

CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
PLAIN = CHAT.replace(b"true", b"false")
SLOW_PROBE = {"interval_s": 100.0}
FAST_PROBE = {"interval_s": 0.02, "unhealthy_after": 1}
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]


async def test_a_dead_replica_is_passed_over() -> None:
    """Nobody has told yet that it is dead: every request still gets its answer."""
    async with recording(3) as replicas:
        urls = [replica.url for replica in replicas]
        async with proxied(urls, probe=SLOW_PROBE) as (app, url):
            await replicas[0].stop()
            await replicas[1].stop()
            for index in range(10):
                body = CHAT.replace(b"hello", b"hello %d" % index)
                got = await ask(url, post(body))
                assert got.status == 200
                assert got.header(b"x-kvproxy-replica") == urls[2].removeprefix("http://").encode()
            await settled(app)
    assert len(replicas[2].received) == 10


@pytest.mark.parametrize("pieces", [[Mark.CUT], [b"HTTP/1.1 200 OK\r\ncontent-le", Mark.CUT]])
async def test_a_replica_that_hangs_up_without_an_answer_is_passed_over(
    pieces: list[Piece],
) -> None:
    async with recording(2) as replicas:
        replicas[0].script = lambda received: pieces
        async with proxied([r.url for r in replicas], probe=SLOW_PROBE) as (app, url):
            for index in range(24):  # each goes to either by its own hash
                body = CHAT.replace(b"hello", b"hello %d" % index)
                assert (await ask(url, post(body))).status == 200
            await settled(app)
    assert len(replicas[1].received) == 24
    assert replicas[0].received


async def test_all_dead_is_a_clear_error() -> None:
    async with (
        recording(2) as replicas,
        proxied([r.url for r in replicas], probe=SLOW_PROBE) as (app, url),
    ):
        for replica in replicas:
            await replica.stop()
        got = await ask(url, post(CHAT))
        other = await ask(url, request("GET", "/version"))
        await settled(app)
    for failed in (got, other):
        assert failed.status == 502
        assert failed.header(b"x-kvproxy-error-code") == b"upstream_unreachable"
        assert failed.header(b"retry-after")
        error = orjson.loads(failed.body)["error"]
        assert (error["type"], error["code"]) == ("BadGatewayError", 502)


async def test_the_only_one_is_tried_though_it_looks_dead_and_back_when_restarted() -> None:
    async with (
        recording(1) as [replica],
        proxied([replica.url], probe=FAST_PROBE) as (app, url),
    ):
        assert (await ask(url, post(CHAT))).status == 200
        port = replica.port
        await replica.stop()
        await eventually(lambda: app.router.replicas[0].health is Health.EJECTED)
        got = await ask(url, post(CHAT))
        assert got.status == 502
        assert got.header(b"retry-after")
        assert orjson.loads(got.body)["error"]["type"] == "BadGatewayError"
        assert (await ask(url, request("GET", "/readyz"))).status == 503
        await replica.start(port)
        await eventually(lambda: app.router.replicas[0].health is Health.PROBING)
        assert (await ask(url, request("GET", "/readyz"))).status == 200
        assert (await ask(url, post(CHAT))).status == 200
        assert app.router.replicas[0].health is Health.READY
        await settled(app)


async def test_what_fails_on_two_engines_is_not_shown_to_a_third() -> None:
    async with recording(3) as replicas:
        for replica in replicas:
            replica.script = lambda received: answer(b'{"error":{}}', status="500 Oops")
        async with proxied([r.url for r in replicas]) as (app, url):
            got = await ask(url, post(CHAT))
            await settled(app)
    assert (got.status, got.body) == (500, b'{"error":{}}')
    assert sum(len(replica.received) for replica in replicas) == 2


@pytest.mark.parametrize("status", ["429 Slow down", "503 Later"])
async def test_what_one_engine_declines_another_may_serve(status: str) -> None:
    async with recording(2) as replicas, proxied([r.url for r in replicas]) as (app, url):
        first = await ask(url, post(CHAT))
        home = next(r for r in replicas if r.received)
        assert first.status == 200
        home.script = lambda received: answer(b"{}", status=status)
        assert (await ask(url, post(CHAT))).status == 200
        for replica in replicas:
            replica.script = lambda received: answer(b'{"busy":1}', status=status)
        refused = await ask(url, post(CHAT))
        await settled(app)
    assert (refused.status, refused.body) == (int(status[:3]), b'{"busy":1}')


async def test_a_request_that_two_engines_break_off_on_is_not_shown_to_a_third() -> None:
    async with recording(4) as replicas:
        for replica in replicas:
            replica.script = lambda received: [Mark.CUT]
        async with proxied([r.url for r in replicas], probe=SLOW_PROBE) as (app, url):
            got = await ask(url, post(CHAT))
            await settled(app)
    assert got.status == 502
    assert b"is not shown to a third" in got.body
    assert sum(len(replica.received) for replica in replicas) == 2


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_stream_that_breaks_ends_with_an_error_event(chunked: bool) -> None:
    """Where the answer stated its length no event fits in: it breaks off."""
    head, first, *_ = answer(b"data: 1\n\n" * 9, headers=SSE, chunk=9, chunked=chunked)
    async with recording(2) as replicas:
        for replica in replicas:
            replica.script = lambda received: [head, first, Mark.CUT]
        async with proxied([r.url for r in replicas]) as (app, url):
            got = await ask(url, post(CHAT))
            await settled(app)
    assert got.status == 200
    assert sum(len(replica.received) for replica in replicas) == 1
    if not chunked:
        assert not got.complete
        return
    assert got.complete
    assert got.body.startswith(b"data: 1\n\ndata: ")
    event, done = got.body.removeprefix(b"data: 1\n\n").removesuffix(b"\n\n").split(b"\n\n")
    assert done == b"data: [DONE]"
    assert orjson.loads(event.removeprefix(b"data: "))["error"]["code"] == 502


async def test_an_event_that_was_cut_in_two_does_not_swallow_the_error() -> None:
    head, half, *_ = answer(b'data: {"a":', headers=SSE, chunked=True)
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        replica.script = lambda received: [head, half, Mark.CUT]
        got = await ask(url, post(CHAT))
    assert got.complete
    broken, error, done, end = got.body.split(b"\n\n")
    assert broken == b'data: {"a":'
    assert orjson.loads(error.removeprefix(b"data: "))["error"]["code"] == 502
    assert (done, end) == (b"data: [DONE]", b"")


@pytest.mark.parametrize("encoding", [b"gzip", b"br"])
async def test_no_event_is_mixed_into_a_compressed_stream(encoding: bytes) -> None:
    headers = [*SSE, (b"content-encoding", encoding)]
    head, first, *_ = answer(b"packed" * 9, headers=headers, chunk=9, chunked=True)
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        replica.script = lambda received: [head, first, Mark.CUT]
        got = await ask(url, post(CHAT))
    assert not got.complete
    assert b"error" not in got.body


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
async def test_a_plain_answer_that_breaks_is_no_whole_one(chunked: bool, path: str) -> None:
    head, first, *_ = answer(b'{"half":' + b"x" * 100, chunk=20, chunked=chunked)
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda received: [head, first, Mark.CUT]
        got = await ask(url, post(PLAIN, path))
        await settled(app)
    assert got.status == 200
    assert not got.complete


async def test_a_silent_replica_is_given_up() -> None:
    async with recording(3) as replicas:
        for replica in replicas:
            replica.script = lambda received: [Mark.HOLD]
        limits = {"idle_timeout_s": 0.05}
        async with proxied([r.url for r in replicas], upstream=limits) as (app, url):
            got = await ask(url, post(CHAT))
            await settled(app)
    assert got.status == 504
    assert orjson.loads(got.body)["error"]["type"] == "GatewayTimeoutError"
    # It may be at work on the prompt: that is why it is given so long, and asked of two at most.
    assert sum(len(replica.received) for replica in replicas) == 2


async def test_an_engine_that_crashes_and_restarts() -> None:
    """The whole way with an emulated engine: cut stream, ejection, fresh start, next turn."""
    fleet = Fleet(EmulatorSettings(model="m", chunk_interval_s=0.005), 1)
    await fleet.start()
    try:
        async with proxied(fleet.urls, probe=FAST_PROBE) as (app, url):
            replica, [listener] = app.router.replicas[0], fleet.listeners
            long = post(CHAT.replace(b'"stream"', b'"max_tokens":100000,"stream"'))
            stream = asyncio.create_task(ask(url, long))
            await eventually(lambda: listener.replica is not None and running(listener.replica))
            await listener.crash(abrupt=True)
            got = await stream
            assert got.body.endswith(b"data: [DONE]\n\n")
            assert b'"error"' in got.body[-300:]
            await eventually(lambda: replica.health is Health.EJECTED)
            await listener.restart()
            await eventually(lambda: replica.health is Health.PROBING)
            assert replica.hbm.runs == 0
            assert (await ask(url, post(PLAIN))).status == 200
            await settled(app)
    finally:
        await fleet.stop()


def running(replica: Replica) -> bool:
    return replica.gauges().running == 1
