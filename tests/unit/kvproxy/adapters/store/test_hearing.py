import asyncio

from redis.asyncio import Redis

from kvproxy.adapters.store.hearing import Hearing
from kvproxy.adapters.store.link import Address, Link
from kvproxy.adapters.store.scripts import SPELL, Names
from kvproxy.adapters.store.writer import prefix_bytes
from kvproxy.core.shared_words import Loads, Mark, Spelt, Word, loads_bytes
from tests.support.proxies import eventually
from tests.support.valkey import valkey

NAMES = Names("n")


async def test_catches_up_hears_and_notices_deafness() -> None:
    told: list[Word] = []
    sent: list[tuple[str, Mark, float]] = []
    deaf: list[bool] = []
    async with valkey() as server, Redis.from_url(server.url) as client:
        spelling = NAMES.spelling(b"s" * 8, b"d" * 16)
        args = (b"{}", 60_000, 1, 10, NAMES.channel, b"")
        await client.eval(SPELL, 2, spelling, NAMES.spellings, *args)
        await client.zadd(NAMES.prefixes, {prefix_bytes("r0", Mark(2, 5), 9.5): 1.0, b"bad": 2.0})
        link = Link(Address(server.url), lambda _: None)
        hearing = Hearing(
            link, NAMES, told.append, lambda *each: sent.append(each), lambda: deaf.append(True)
        )
        task = asyncio.create_task(hearing.run())
        await asyncio.wait_for(hearing.caught_up.wait(), 10)
        assert (told, sent) == ([Spelt(b"s" * 8, b"d" * 16, b"{}")], [("r0", Mark(2, 5), 9.5)])
        await client.publish(NAMES.channel, b"nonsense")
        await client.publish(NAMES.channel, loads_bytes(Loads("a", ())))
        await eventually(lambda: len(told) == 2)
        assert told[1] == Loads("a", ())
        assert (hearing.messages, hearing.refused) == (2, 1)
        await server.kill()
        await eventually(lambda: not hearing.hears)
        await server.start()
        await eventually(lambda: hearing.hears)
        assert len(deaf) >= 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await link.close()


async def test_a_store_that_refuses_is_asked_again() -> None:
    """As one does that is loading what it had before it was restarted."""
    async with valkey() as server, Redis.from_url(server.url) as client:
        await client.set(NAMES.prefixes, "no set")
        link = Link(Address(server.url), lambda _: None)
        deaf: list[bool] = []
        hearing = Hearing(link, NAMES, lambda _: None, lambda *_: None, lambda: deaf.append(True))
        task = asyncio.create_task(hearing.run())
        await eventually(lambda: len(deaf) >= 2)
        assert not hearing.hears
        await client.delete(NAMES.prefixes)
        await eventually(lambda: hearing.hears)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await link.close()
