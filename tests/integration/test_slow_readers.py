"""Clients that take an answer slowly, or not at all, cost a bounded buffer and nobody else."""

import asyncio

from kvproxy.app import App
from tests.support.proxies import eventually, proxied, settled
from tests.support.recording import answer, recording
from tests.support.wire import ask, connected, post, read_answer

CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
OTHER = CHAT.replace(b"hello", b"another")
EVENTS = [(b"content-type", b"text/event-stream")]
BODY = b"data: " + b"x" * (32 * 2**20) + b"\n\n"
BUFFER_BYTES_MAX = 2**20


def buffered(app: App) -> int:
    return sum(each._transport.get_write_buffer_size() for each in app.server.connections)


async def test_what_is_not_taken_waits_at_the_engine() -> None:
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda received: answer(
            b"data: 1\n\n" if b"another" in received.body else BODY,
            headers=EVENTS, chunk=2**16, chunked=True,
        )  # fmt: skip
        async with connected(url) as (reader, writer):
            transport = reader._transport  # type: ignore[attr-defined]
            writer.write(post(CHAT))
            await eventually(lambda: bool(replica.received))
            transport.pause_reading()
            await eventually(lambda: any(each.congested for each in app.server.connections))
            await asyncio.sleep(0.2)
            assert buffered(app) < BUFFER_BYTES_MAX
            # Others are served meanwhile.
            assert (await ask(url, post(OTHER))).complete
            transport.resume_reading()
            got = await read_answer(reader)
        assert got.complete
        assert got.body == BODY
        await settled(app)


async def test_who_takes_nothing_for_too_long_is_left() -> None:
    async with recording() as [replica]:
        replica.script = lambda received: answer(BODY, headers=EVENTS, chunk=2**16, chunked=True)
        server = {"body_timeout_s": 0.3}
        async with proxied([replica.url], server=server) as (app, url), connected(url) as streams:
            reader, writer = streams
            writer.write(post(CHAT))
            await eventually(lambda: bool(replica.received))
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await eventually(lambda: not app.server.connections)
            await settled(app)
            await replica.received[0].gone.wait()


async def test_connections_beyond_the_limit_are_told_so_at_once() -> None:
    async with recording() as [replica]:
        server = {"max_connections": 2}
        async with proxied([replica.url], server=server) as (app, url):
            async with connected(url) as (_, one), connected(url) as (_, two):
                for writer in (one, two):
                    writer.write(post(CHAT)[:-1])
                await eventually(lambda: app.server.in_flight == 2)
                got = await ask(url, post(CHAT))
                assert got.status == 429
                assert got.header(b"retry-after") == b"1"
            await eventually(lambda: not app.server.connections)
            assert (await ask(url, post(CHAT))).status == 200
