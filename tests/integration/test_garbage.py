"""A request that is over is gone, however it ended: nothing of it waits for the collector.

What does holds its body, its answer and its connection, some hundred kilobytes each, and the
collector comes seldom (kvproxy/cli/serve.py).
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.garbage import garbage_of
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.recording import Mark, RecordingReplica, answer, recording
from tests.support.wire import ask, connected, post, request

CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
SSE = [(b"content-type", b"text/event-stream")]
STREAM = answer(b"data: 1\n\ndata: 2\n\n", headers=SSE, chunk=9, chunked=True)
CHUNKED = [("transfer-encoding", "chunked"), ("content-type", "application/json")]

Ending = Callable[[Running, RecordingReplica], Awaitable[None]]


async def answered(proxy: Running, replica: RecordingReplica) -> None:
    replica.script = lambda received: STREAM
    assert (await ask(proxy.url, post(CHAT))).complete


async def cut(proxy: Running, replica: RecordingReplica) -> None:
    replica.script = lambda received: [*STREAM[:2], Mark.CUT]
    assert b"broke off" in (await ask(proxy.url, post(CHAT))).body


async def lost(proxy: Running, replica: RecordingReplica) -> None:
    replica.script = lambda received: [Mark.CUT]
    assert (await ask(proxy.url, post(CHAT))).status == 502


async def garbled(proxy: Running, replica: RecordingReplica) -> None:
    replica.script = lambda received: [b"SSH-2.0-OpenSSH_9.7\r\n", Mark.CUT]
    assert (await ask(proxy.url, post(CHAT))).status == 502


async def failed(proxy: Running, replica: RecordingReplica) -> None:
    replica.script = lambda received: answer(b"{}", status="500 Internal Server Error")
    assert (await ask(proxy.url, post(CHAT))).status == 500


async def silent(proxy: Running, replica: RecordingReplica) -> None:
    gate = asyncio.Event()
    replica.script = lambda received: [gate]
    assert (await ask(proxy.url, post(CHAT))).status == 504
    gate.set()


async def unread(proxy: Running, replica: RecordingReplica) -> None:
    assert (await ask(proxy.url, post(b"{" * 20))).status == 400


async def no_http(proxy: Running, replica: RecordingReplica) -> None:
    assert (await ask(proxy.url, b"what is this?\r\n\r\n")).status == 400


async def too_large(proxy: Running, replica: RecordingReplica) -> None:
    assert (await ask(proxy.url, post(b"x" * 2000))).status == 413
    raw = request("POST", "/v1/chat/completions", CHUNKED)
    assert (await ask(proxy.url, raw + b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n")).status == 413


async def left_while_sending(proxy: Running, replica: RecordingReplica) -> None:
    for raw in (post(CHAT)[:-5], request("POST", "/v1/chat/completions", CHUNKED) + b"5\r\n{"):
        async with connected(proxy.url) as (_, writer):
            writer.write(raw)
            await eventually(lambda: proxy.app.server.in_flight == 1)
        await eventually(lambda: not proxy.app.server.connections)


async def left_before_the_answer(proxy: Running, replica: RecordingReplica) -> None:
    gate = asyncio.Event()
    replica.script = lambda received: [gate]
    async with connected(proxy.url) as (_, writer):
        writer.write(post(CHAT))
        await replica.next()
    await eventually(lambda: not proxy.app.server.connections)
    gate.set()


async def left_in_the_answer(proxy: Running, replica: RecordingReplica) -> None:
    gate = asyncio.Event()
    replica.script = lambda received: [*STREAM[:2], gate]
    async with connected(proxy.url) as (reader, writer):
        writer.write(post(CHAT))
        await reader.readuntil(b"data: 1")
    await eventually(lambda: not proxy.app.server.connections)
    gate.set()


async def nobody_there(proxy: Running, replica: RecordingReplica) -> None:
    proxy.app.table.drain(proxy.app.router.replicas[0].id)
    assert (await ask(proxy.url, post(CHAT))).status == 503


async def unreachable(proxy: Running, replica: RecordingReplica) -> None:
    await replica.stop()
    assert (await ask(proxy.url, post(CHAT))).status in (502, 503)


async def asked_in_vain(proxy: Running, replica: RecordingReplica) -> None:
    [known] = proxy.app.router.replicas
    await replica.stop()
    for _ in range(3):
        # The beat is off here; what is looked at is what asking leaves.
        await proxy.app.probe._probe(known)
    assert not known.up


@pytest.mark.parametrize(
    "ending",
    [
        answered,
        cut,
        lost,
        garbled,
        failed,
        silent,
        unread,
        no_http,
        too_large,
        left_while_sending,
        left_before_the_answer,
        left_in_the_answer,
        nobody_there,
        unreachable,
        asked_in_vain,
    ],
)
@pytest.mark.parametrize("goes_on", [False, True], ids=["", "continue"])
async def test_nothing_waits_for_the_collector(ending: Ending, goes_on: bool) -> None:
    sections = {
        "server": {"max_body_bytes": 1000},
        # Nobody asks how the replica is meanwhile: what asking leaves is the client library's.
        "probe": {"interval_s": 1000},
        "upstream": {
            "idle_timeout_s": 0.2 if ending is silent else 30,
            "continue_streams": goes_on,
        },
    }
    async with recording() as [replica], proxied([replica.url], **sections) as proxy:
        # What is made once, at the first request, is no garbage.
        await answered(proxy, replica)
        async with garbage_of() as found:
            await ending(proxy, replica)
            await settled(proxy.app)
        assert not found, dict(found)
