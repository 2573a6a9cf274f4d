"""A streaming client behind a full queue hears comments, then exactly what the engine says."""

import asyncio
import re
from itertools import pairwise

import pytest

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.recording import Mark, answer, recording
from tests.support.wire import WireAnswer, ask, connected, post, read_answer

CHAT = b'{"model":"m","stream":true,"max_tokens":4,"messages":[{"role":"user","content":"hello"}]}'
COMPLETIONS = b'{"model":"m","stream":true,"max_tokens":4,"prompt":"hello"}'
MESSAGES = CHAT
RESPONSES = b'{"model":"m","stream":true,"max_output_tokens":4,"input":"hello"}'
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/messages": MESSAGES,
    "/v1/responses": RESPONSES,
}
LONG = CHAT.replace(b"hello", b"x" * 8000)
# The long prompt is thought to take a replica 200 s, so whoever comes next waits for its end.
SECTIONS = {
    "admission": {"backlog_s": 0.001, "keepalive_s": 0.01},
    "score": {"prefill_tok_s": 10},
    "probe": {"interval_s": 100.0},
}
COMMENTS = re.compile(rb"(: waiting\n\n)+")
KIND = re.compile(rb'(?:\A|\n\n)(?:event: ([\w.]+)|data: (?:\{.*?"object":"([\w.]+)"|(.DONE.)))')
SSE = [(b"content-type", b"text/event-stream")]


async def waited(running: Running, body: bytes, path: str, comments: int = 2) -> WireAnswer:
    """What a client gets that hears `comments` comments before the replica is free for it."""
    app, url = running
    async with connected(url) as (reader, writer):
        async with connected(url) as (_, first):
            first.write(post(LONG))
            await eventually(lambda: app.router.replicas[0].load.in_flight == 1)
            writer.write(post(body, path))
            await eventually(lambda: app.admission.length == 1)
            heard = b""
            while heard.count(b": waiting\n\n") < comments:
                heard += await reader.read(1)
        again = asyncio.StreamReader()
        again.feed_data(heard)
        copying = asyncio.create_task(_copy(reader, again))
        got = await read_answer(again, "POST")
        copying.cancel()
    await settled(app)
    return got


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamReader) -> None:
    while data := await source.read(2**16):
        target.feed_data(data)
    target.feed_eof()


def kinds(stream: bytes) -> list[bytes]:
    """Kinds of events in order, runs of one kind once: the clock says what shares a chunk."""
    named = [b"".join(kind) for kind in KIND.findall(stream)]
    return [kind for before, kind in pairwise([b"", *named]) if kind != before]


@pytest.mark.parametrize("path", BODIES)
async def test_comments_come_first_and_the_engines_stream_follows(path: str) -> None:
    slow = EmulatorSettings(model="m", prefill_tok_s=200.0, max_num_batched_tokens=20)
    async with emulated(slow) as [engine], proxied([engine], **SECTIONS) as running:
        got = await waited(running, BODIES[path], path)
        alone = await ask(engine, post(BODIES[path], path))
    assert (got.status, got.complete) == (200, True)
    assert got.header(b"content-type") == b"text/event-stream; charset=utf-8"
    assert got.header(b"x-kvproxy-replica") is None
    comments = COMMENTS.match(got.body)
    assert comments is not None
    rest = got.body[comments.end() :]
    assert b": waiting" not in rest
    assert kinds(rest) == kinds(alone.body)
    assert len(kinds(rest)) > 1


async def test_the_engines_bytes_are_not_touched() -> None:
    stream = b"data: 1\r\n\r\n: waiting\n\ndata: [DONE]\n\n"
    async with recording() as [replica], proxied([replica.url], **SECTIONS) as running:
        replica.script = lambda received: (
            [Mark.HOLD] if received.body == LONG else answer(stream, headers=SSE, chunk=3)
        )
        got = await waited(running, CHAT, "/v1/chat/completions")
    assert got.body.endswith(b": waiting\n\n" + stream)


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("/v1/chat/completions", b'data: {"error":{"message":"too long","code":400}}\n\n'),
        ("/v1/completions", b'data: {"error":{"message":"too long","code":400}}\n\n'),
        ("/v1/messages", b'event: error\ndata: {"error":{"message":"too long","code":400}}\n\n'),
        ("/v1/responses", b'"error":{"message":"too long","code":400}}\n\n'),
    ],
)
async def test_an_engines_error_becomes_an_event(path: str, event: bytes) -> None:
    said = answer(b'{"error": {"message": "too long", "code": 400}}', status="400 Bad Request")
    async with recording() as [replica], proxied([replica.url], **SECTIONS) as running:
        replica.script = lambda received: [Mark.HOLD] if received.body == LONG else said
        got = await waited(running, BODIES[path], path)
    assert (got.status, got.complete) == (200, True)
    assert event in got.body


async def test_a_client_that_leaves_while_it_is_held_leaves_nothing() -> None:
    async with recording() as [replica], proxied([replica.url], **SECTIONS) as (app, url):
        replica.script = lambda received: [Mark.HOLD]
        async with connected(url) as (_, first):
            first.write(post(LONG))
            await eventually(lambda: app.router.replicas[0].load.in_flight == 1)
            async with connected(url) as (reader, writer):
                writer.write(post(CHAT))
                await reader.readuntil(b": waiting\n\n")
                assert app.admission.length == 1
            await eventually(lambda: app.admission.length == 0)
        await settled(app)
    assert len(replica.received) == 1


async def test_a_shutdown_ends_the_wait_with_an_event() -> None:
    async with recording() as [replica], proxied([replica.url], **SECTIONS) as (app, url):
        replica.script = lambda received: [Mark.HOLD]
        async with connected(url) as (_, first), connected(url) as (reader, writer):
            first.write(post(LONG))
            await eventually(lambda: app.router.replicas[0].load.in_flight == 1)
            writer.write(post(CHAT))
            await reader.readuntil(b": waiting\n\n")
            stopping = asyncio.create_task(app.server.drain(0.0))
            rest = await reader.read()
            await stopping
    assert b'data: {"error":' in rest
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
