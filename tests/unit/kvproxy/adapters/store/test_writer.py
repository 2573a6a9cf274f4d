import asyncio
import time

import pytest
from redis.asyncio import Redis

from kvproxy.adapters.store.link import Address, Link, end
from kvproxy.adapters.store.scripts import Names
from kvproxy.adapters.store.writer import Terms, Writer, prefix_bytes, prefix_from
from kvproxy.core.bindings import Bindings
from kvproxy.core.representatives import First
from kvproxy.core.shared_words import Bound, Loads, Mark, Spelt, Told, WordError
from tests.support.proxies import eventually
from tests.support.valkey import Valkey, valkey

TERMS = Terms(Names("n"), 60_000, 60_000, 10, 3)


class Telling:
    def __init__(self, server: Valkey, origin: str) -> None:
        self.link = Link(Address(server.url), lambda _: None)
        self.bindings = Bindings(origin, 1000, 60.0)
        self.heard: list[Told | Spelt] = []
        self.writer = Writer(
            self.link, TERMS, self.bindings, lambda _: Loads(origin, ()), self.heard.append
        )
        self.task = asyncio.create_task(self.writer.run())

    def bind(
        self, key: bytes, replica: str, marks: tuple[Mark, ...] = (), ago_s: float = 0.0
    ) -> None:
        bound = Bound(self.bindings.origin, replica, 1, marks)
        self.writer.put_binding(key, self.bindings.placed(key, bound, time.monotonic() - ago_s))

    async def done(self) -> None:
        await eventually(lambda: self.link.up and not self.writer.waiting)
        await asyncio.sleep(0.01)

    async def close(self) -> None:
        await end([self.task])
        await self.link.close()


async def test_bindings_spellings_and_prefixes_arrive_and_losers_are_corrected() -> None:
    async with valkey() as server:
        first, second = Telling(server, "a"), Telling(server, "b")
        for number in range(300):
            first.bind(b"%016d" % number, "r0", (Mark(1, number),))
        first.writer.put_spelling(First(b"s" * 8, b"d" * 16, b"first"))
        await first.done()
        await eventually(lambda: first.writer.counts.taken == 300)
        second.bind(b"%016d" % 7, "r1", ago_s=60.0)
        second.writer.put_spelling(First(b"s" * 8, b"d" * 16, b"second"))
        await second.done()
        await eventually(lambda: len(second.heard) == 2)
        told, spelt = second.heard
        assert told == Told(b"%016d" % 7, 1, Bound("a", "r0", 1, (Mark(1, 7),)))
        assert spelt == Spelt(b"s" * 8, b"d" * 16, b"first")
        assert second.writer.counts.refused == 1
        async with Redis.from_url(server.url) as client:
            assert await client.zcard(TERMS.names.prefixes) == 3
        await first.close()
        await second.close()


async def test_what_could_not_be_told_is_told_when_the_store_is_back() -> None:
    async with valkey() as server:
        telling = Telling(server, "a")
        await telling.done()
        await server.kill()
        for number in range(50):
            telling.bind(b"%016d" % number, "r0")
        await eventually(lambda: telling.writer.counts.failed > 0)
        assert not telling.link.up
        await server.start()
        await eventually(lambda: telling.writer.counts.taken == 50)
        assert telling.writer.dropped == 0
        await telling.close()


def test_prefixes_come_back() -> None:
    member = prefix_bytes("r0", Mark(3, 2**64 - 1), 1234.5)
    assert prefix_from(member) == ("r0", Mark(3, 2**64 - 1), 1234.5)
    with pytest.raises(WordError):
        prefix_from(b"short")
