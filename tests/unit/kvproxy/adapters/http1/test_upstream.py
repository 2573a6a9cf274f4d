"""Requests to a replica that records them byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from kvproxy.adapters.http1.upstream import Http1Upstream, UpstreamLimits
from kvproxy.core.errors import ProxyError
from kvproxy.core.router import Placement
from kvproxy.core.score import Match
from tests.support.fake_ports import FakeExchange, Steps
from tests.support.makers import make_replica, make_router
from tests.support.recording import Mark, Received, RecordingReplica, answer, recording

RawHeaders = Sequence[tuple[bytes, bytes]]


@asynccontextmanager
async def upstream(
    keys: dict[str, str] | None = None, idle_timeout_s: float = 30.0
) -> AsyncIterator[Http1Upstream]:
    made = Http1Upstream(UpstreamLimits(5.0, idle_timeout_s, 30.0), keys or {})
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def to(replica: RecordingReplica) -> Placement:
    return make_router([make_replica("r0", url=replica.url)]).place_anywhere(0.0)


def asking(headers: RawHeaders = (), **given: object) -> FakeExchange:
    header = {name.decode().lower(): value.decode("latin-1") for name, value in headers}
    return FakeExchange(
        Steps(),
        raw_headers=headers,
        header=header,
        **given,  # type: ignore[arg-type]
    )


async def fetch(
    sender: Http1Upstream, replica: RecordingReplica, exchange: FakeExchange, body: bytes = b"{}"
) -> tuple[int, bytes]:
    async with sender.open(to(replica), exchange, body) as got:
        parts: list[bytes] = []
        await got.relay(parts.append, exchange)
        return got.status, b"".join(parts)


def named(received: Received) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in received.headers}


async def test_body_and_target_arrive_as_they_are() -> None:
    async with upstream() as sender, recording() as (replica,):
        exchange = asking(path="/v1/x%2Fy?q=a%20b&q=ü".encode().decode("latin-1"))
        body = b'{"a": "\xc3\xa9"}'
        assert await fetch(sender, replica, exchange, body) == (200, b"{}")
        (received,) = replica.received
        assert received.method == "POST"
        assert received.target.startswith("/v1/x%2Fy?q=a%20b&q=")
        assert received.body == body
        assert named(received)[b"content-length"] == b"%d" % len(body)


async def test_headers_of_the_connection_stay_behind() -> None:
    headers = [
        (b"Host", b"proxy.example"),
        (b"Content-Type", b"application/json"),
        (b"X-Custom", b"kept"),
        (b"Connection", b"keep-alive, X-Secret-Hop"),
        (b"X-Secret-Hop", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"TE", b"trailers"),
        (b"Expect", b"100-continue"),
        (b"Content-Length", b"999"),
        (b"X-Kvproxy-Decision", b"1"),
        (b"X-Request-Id", b"the client's"),
        (b"Authorization", b"Bearer client"),
    ]
    async with upstream() as sender, recording() as (replica,):
        await fetch(sender, replica, asking(headers))
        got = named(replica.received[0])
        assert got[b"host"] == replica.url.removeprefix("http://").encode()
        assert got[b"x-custom"] == b"kept"
        assert got[b"content-type"] == b"application/json"
        assert got[b"x-request-id"] == b"id-1"
        assert got[b"authorization"] == b"Bearer client"
        assert got[b"content-length"] == b"2"
        gone = {b"x-secret-hop", b"keep-alive", b"te", b"expect", b"x-kvproxy-decision"}
        assert gone.isdisjoint(got)
        # Nothing is added that the client did not send.
        assert {b"user-agent", b"accept", b"accept-encoding", b"cookie"}.isdisjoint(got)


async def test_a_replica_with_a_key_gets_that_one_only() -> None:
    async with upstream({"r0": "secret"}) as sender, recording() as (replica,):
        await fetch(sender, replica, asking([(b"authorization", b"Bearer client")]))
        values = [v for name, v in replica.received[0].headers if name.lower() == b"authorization"]
        assert values == [b"Bearer secret"]


@pytest.mark.parametrize(("events", "session"), [(True, b"id-1"), (False, b"the client's")])
async def test_a_replica_that_is_listened_to_gets_our_id_as_session(
    events: bool, session: bytes
) -> None:
    async with upstream() as sender, recording() as (replica,):
        placement = to(replica)
        placement.replica.kv_events = events
        placing = replace(placement.placing, request_id="id-1", match=Match(1, 16, rank=3))
        placement = replace(placement, placing=placing)
        exchange = asking([(b"X-Session-ID", b"the client's")])
        async with sender.open(placement, exchange, b"{}"):
            pass
        headers = named(replica.received[0])
        assert headers[b"x-session-id"] == session
        assert headers[b"x-data-parallel-rank"] == b"3"


async def test_requests_without_a_body_have_none() -> None:
    async with upstream() as sender, recording() as (replica,):
        await fetch(sender, replica, asking(method="GET", path="/v1/x"), b"")
        assert b"transfer-encoding" not in named(replica.received[0])
        assert replica.received[0].body == b""


async def test_connections_are_used_again_after_a_whole_answer() -> None:
    async with upstream() as sender, recording() as (replica,):
        for chunked in (False, True, False):
            replica.script = lambda received, chunked=chunked: answer(chunked=chunked)
            await fetch(sender, replica, asking())
        assert replica.connections == 1


async def test_leaving_early_closes_the_connection() -> None:
    async with upstream() as sender, recording() as (replica,):
        replica.script = lambda received: [*answer(b"x" * 9, chunk=3)[:2], Mark.HOLD]
        exchange, came = asking(), asyncio.Event()
        async with sender.open(to(replica), exchange, b"{}") as got:
            relaying = asyncio.create_task(got.relay(lambda part: came.set(), exchange))
            await came.wait()
            relaying.cancel()
        await replica.received[0].gone.wait()


async def test_error_answers_and_redirects_are_answers() -> None:
    async with upstream() as sender, recording() as (replica,):
        for status in ("404 Not Found", "503 Unavailable", "302 Found"):
            headers = [(b"location", b"http://other.example/")]
            replica.script = lambda received, s=status, h=headers: answer(status=s, headers=h)
            assert await fetch(sender, replica, asking()) == (int(status[:3]), b"{}")


async def test_compressed_answers_stay_compressed_and_cookies_are_not_kept() -> None:
    headers = [(b"content-encoding", b"gzip"), (b"set-cookie", b"a=b")]
    async with upstream() as sender, recording() as (replica,):
        replica.script = lambda received: answer(b"\x1f\x8bxx", headers=headers)
        for _ in range(2):
            assert await fetch(sender, replica, asking()) == (200, b"\x1f\x8bxx")
        assert b"cookie" not in named(replica.received[1])


async def test_nobody_there() -> None:
    async with upstream() as sender:
        async with recording() as (replica,):
            pass
        with pytest.raises(ProxyError) as raised:
            await fetch(sender, replica, asking())
        assert raised.value.code == "upstream_unreachable"
        assert raised.value.retry_after_s == 1.0


async def test_a_connection_that_ends_before_the_answer() -> None:
    async with upstream() as sender, recording() as (replica,):
        replica.script = lambda received: [Mark.CUT]
        with pytest.raises(ProxyError) as raised:
            await fetch(sender, replica, asking())
        assert raised.value.code == "upstream_lost"


async def test_an_answer_that_breaks_off() -> None:
    async with upstream() as sender, recording() as (replica,):
        replica.script = lambda received: [*answer(b"x" * 9, chunk=3)[:2], Mark.CUT]
        with pytest.raises(ProxyError) as raised:
            await fetch(sender, replica, asking())
        assert raised.value.code == "upstream_broke"


async def test_silence_before_and_within_an_answer() -> None:
    async with upstream(idle_timeout_s=0.05) as sender, recording() as (replica,):
        for pieces in ([Mark.HOLD], [*answer(b"x" * 9, chunk=3)[:2], Mark.HOLD]):
            replica.script = lambda received, pieces=pieces: pieces
            with pytest.raises(ProxyError) as raised:
                await fetch(sender, replica, asking())
            assert raised.value.code == "upstream_timeout"


async def test_a_connection_that_was_closed_meanwhile_is_replaced_by_a_fresh_one() -> None:
    """Before any byte of an answer: the request crossed the replica's close on the wire."""
    async with upstream() as sender, recording() as (replica,):
        assert await fetch(sender, replica, asking()) == (200, b"{}")
        scripts = [[Mark.CUT], answer(b"fresh")]
        replica.script = lambda received: scripts[len(replica.received) - 2]
        assert await fetch(sender, replica, asking()) == (200, b"fresh")
        assert len(replica.received) == 3


async def test_a_fresh_connection_that_is_closed_is_not_replaced() -> None:
    async with upstream() as sender, recording() as (replica,):
        assert await fetch(sender, replica, asking()) == (200, b"{}")
        replica.script = lambda received: [Mark.CUT]
        with pytest.raises(ProxyError):
            await fetch(sender, replica, asking())
        assert len(replica.received) == 3
