import asyncio
import errno
from collections.abc import AsyncIterator

import pytest

from kvproxy.adapters.http1.deadlines import Deadlines
from kvproxy.adapters.http1.link import Link, Phase
from kvproxy.adapters.http1.pool import Origin, Pool
from kvproxy.core.errors import ProxyError
from tests.support.fake_ports import FakeExchange, Steps
from tests.support.proxies import eventually
from tests.support.recording import RecordingReplica, recording


def pool_of(url: str, keepalive_s: float = 30.0) -> Pool:
    return Pool(
        "r0",
        Origin(url),
        connect_timeout_s=5.0,
        idle_timeout_s=5.0,
        keepalive_s=keepalive_s,
        deadlines=Deadlines(1.0),
    )


@pytest.fixture
async def replica() -> AsyncIterator[RecordingReplica]:
    async with recording() as [found]:
        yield found


async def take(pool: Pool, *, fresh: bool = False) -> Link:
    return pool.idle(fresh=fresh) or await pool.connect()


async def ask(link: Link) -> None:
    link.ask("GET", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"")
    await link.answered()
    await link.relay(lambda part: None, FakeExchange(Steps()))


async def test_the_freshest_is_used_first_and_there_is_no_cap(replica: RecordingReplica) -> None:
    pool = pool_of(replica.url)
    links = [await take(pool) for _ in range(30)]
    for link in links:
        await ask(link)
        pool.give_back(link)
    assert [await take(pool) for _ in range(30)] == links[::-1]
    assert await take(pool, fresh=True) not in links


async def test_what_was_not_read_to_its_end_is_closed(replica: RecordingReplica) -> None:
    pool = pool_of(replica.url)
    link = await take(pool)
    pool.give_back(link)
    assert link.phase is Phase.BROKEN
    assert await take(pool) is not link


async def test_a_connection_that_rested_too_long_is_not_used(replica: RecordingReplica) -> None:
    pool = pool_of(replica.url, keepalive_s=2.0)
    link = await take(pool)
    await ask(link)
    pool.give_back(link)
    assert link.deadline == link.idle_since + 2.0
    link.idle_since -= 2.0
    assert await take(pool) is not link
    assert link.closing


async def test_a_connection_that_the_replica_closed_is_not_used(replica: RecordingReplica) -> None:
    pool, port = pool_of(replica.url), replica.port
    link = await take(pool)
    await ask(link)
    pool.give_back(link)
    await replica.stop()
    await eventually(lambda: link.closing)
    await replica.start(port)
    assert await take(pool) is not link


async def test_nobody_there() -> None:
    async with recording() as [gone]:
        url = gone.url
    with pytest.raises(ProxyError) as raised:
        await take(pool_of(url))
    assert (raised.value.code, raised.value.retry_after_s) == ("upstream_unreachable", 1.0)


@pytest.mark.parametrize(
    ("url", "address", "host", "prefix"),
    [
        ("http://a:8000", ("a", 8000, False), b"a:8000", ""),
        ("http://a", ("a", 80, False), b"a", ""),
        ("https://a/base/", ("a", 443, True), b"a", "/base"),
        ("http://[::1]:9", ("::1", 9, False), b"[::1]:9", ""),
    ],
)
def test_where_urls_lead(
    url: str, address: tuple[str, int, bool], host: bytes, prefix: str
) -> None:
    found = Origin(url)
    assert (found.name, found.port, found.tls is not None) == address
    assert (found.host, found.prefix) == (host, prefix)


async def test_connections_that_ended_are_not_kept_below_newer_ones(
    replica: RecordingReplica,
) -> None:
    pool = pool_of(replica.url)
    burst = [await take(pool) for _ in range(30)]
    for link in burst:
        await ask(link)
        pool.give_back(link)
    newest = await take(pool)
    for link in burst:
        if link is not newest:
            link.expired()
    for _ in range(2):
        await ask(newest)
        pool.give_back(newest)
        assert len(pool._idle) == 1
        assert await take(pool) is newest


async def test_what_this_process_lacks_is_not_the_replicas_fault(
    replica: RecordingReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*given: object, **named: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", none)
    with pytest.raises(ProxyError, match="Too many open files") as raised:
        await pool_of(replica.url).connect()
    assert raised.value.code == "overloaded"
