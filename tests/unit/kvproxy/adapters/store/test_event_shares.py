"""Proxies that share a real store divide what they listen to."""

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvproxy.adapters.store import event_shares
from kvproxy.adapters.store.event_shares import EventShares, Feed
from kvproxy.adapters.store.link import Address, end
from kvproxy.adapters.store.shared_store import SharedStore, StoreLimits
from kvproxy.core.event_source import names_of
from kvproxy.core.kv_events import Stored
from kvproxy.core.kv_sources import KvSource
from kvproxy.core.replica import Replica
from kvproxy.core.types import Tier
from tests.support.makers import make_router
from tests.support.proxies import eventually
from tests.support.valkey import Valkey, valkey

LIMITS = StoreLimits("n", 0.01, 60.0, 100, 100, 100)
REPLICAS = 12
SOURCES = [KvSource(f"r{n}", 0, f"tcp://h:{n}", "", "") for n in range(REPLICAS)]
TOKENS = array("I", range(64))
CHAIN = names_of(TOKENS, 16)


class Proxy:
    """Whoever follows a replica finds that it holds two blocks of CHAIN, then three."""

    def __init__(self, name: str, server: Valkey) -> None:
        self.router = make_router(REPLICAS)
        self.store = SharedStore(
            name,
            Address(server.url),
            LIMITS,
            router=self.router,
            representatives=None,
            took=lambda _: None,
        )
        self.followed: set[str] = set()
        self.shares = EventShares(
            name,
            self.store.link,
            self.store.names.events,
            feed=Feed(self.follow, self.forget),
            holdings=self.router.holdings,
            peers=self.store.loads,
            hears=lambda: self.store.hearing.hears,
        )
        for source, replica in zip(SOURCES, self.router.replicas, strict=True):
            self.shares.follow(source, replica)

    def follow(self, source: KvSource, replica: Replica) -> None:
        assert source.replica not in self.followed
        self.followed.add(source.replica)
        self.announce(source.replica, 0, 2)

    async def forget(self, source: KvSource) -> None:
        self.followed.remove(source.replica)
        self.router.holdings.reset(source.replica, source.rank, complete=True)

    def announce(self, replica: str, first: int, count: int) -> None:
        tokens = TOKENS[16 * first : 16 * (first + count)].tolist()
        hashes = list(range(100 + first, 100 + first + count))
        parent = 99 + first if first else 0
        event = Stored(hashes, parent, tokens, 16, Tier.HBM, None, None, True, "")
        self.router.holdings.apply(replica, 0, event)

    def held(self) -> list[int]:
        index = self.router.holdings.index
        return [index.look_up(source.replica, CHAIN, 16).hbm for source in SOURCES]

    async def start(self) -> None:
        await self.store.start()
        self.shares.start()

    async def close(self) -> None:
        await self.shares.close()
        await self.store.close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_shares, "_SETTLE_S", 1.5)
    monkeypatch.setattr(event_shares, "HEARTBEAT_S", 0.2)


@asynccontextmanager
async def proxies(server: Valkey, count: int) -> AsyncIterator[list[Proxy]]:
    made = [Proxy(f"proxy-{number}", server) for number in range(count)]
    await asyncio.gather(*(proxy.start() for proxy in made))
    try:
        yield made
    finally:
        await asyncio.gather(*(proxy.close() for proxy in made))


def is_divided(fleet: list[Proxy]) -> bool:
    followed = [name for proxy in fleet for name in proxy.followed]
    return len(followed) == len(set(followed)) == REPLICAS and all(p.followed for p in fleet)


async def test_each_replica_is_followed_by_one_and_known_to_all() -> None:
    async with valkey() as server, proxies(server, 3) as fleet:
        await eventually(lambda: is_divided(fleet), 30.0)
        await eventually(lambda: all(proxy.held() == [2] * REPLICAS for proxy in fleet), 30.0)
        assert [p.shares.own + p.shares.others for p in fleet] == [REPLICAS] * 3
        for proxy in fleet:
            for name in proxy.followed:
                proxy.announce(name, 2, 1)
        await eventually(lambda: all(proxy.held() == [3] * REPLICAS for proxy in fleet), 30.0)
        for proxy in fleet:
            assert all(replica.kv_events or replica.id in proxy.followed
                       for replica in proxy.router.replicas)  # fmt: skip
            assert not any(proxy.router.holdings.standing.any_behind(f"r{n}") for n in range(12))


async def test_the_share_of_one_that_dies_goes_to_the_others_and_no_other_moves() -> None:
    async with valkey() as server, proxies(server, 3) as fleet:
        await eventually(lambda: is_divided(fleet), 30.0)
        *left, lost = fleet
        before = [set(proxy.followed) for proxy in left]
        await lost.shares.close()
        await end(lost.store._tasks)
        await eventually(lambda: is_divided(left), 30.0)
        assert all(proxy.followed >= kept for proxy, kept in zip(left, before, strict=True))
        await eventually(lambda: all(proxy.held() == [2] * REPLICAS for proxy in left), 30.0)


async def test_without_the_store_shares_stay_and_the_others_have_no_say() -> None:
    async with valkey() as server, proxies(server, 2) as fleet:
        await eventually(lambda: all(proxy.held() == [2] * REPLICAS for proxy in fleet), 30.0)
        before = [set(proxy.followed) for proxy in fleet]
        await server.kill()
        await eventually(lambda: all(sum(p.held()) == 2 * len(p.followed) for p in fleet), 30.0)
        assert [proxy.followed for proxy in fleet] == before
        await server.start()
        await eventually(lambda: all(proxy.held() == [2] * REPLICAS for proxy in fleet), 30.0)
        assert [proxy.followed for proxy in fleet] == before


async def test_sources_that_go_are_forgotten_and_nonsense_is_counted() -> None:
    async with valkey() as server, proxies(server, 2) as fleet:
        await eventually(lambda: all(proxy.held() == [2] * REPLICAS for proxy in fleet), 30.0)
        for proxy in fleet:
            await proxy.shares.forget(SOURCES[0])
            await proxy.shares.forget(SOURCES[0])
            assert proxy.held() == [0] + [2] * (REPLICAS - 1)
        await fleet[0].store.link.send([("PUBLISH", fleet[0].store.names.events, b"nonsense")])
        await eventually(lambda: fleet[1].shares.refused == 1, 30.0)


async def test_a_source_that_goes_while_it_changes_hands_is_forgotten_whole() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def forget(source: KvSource) -> None:
        began.set()
        await go_on.wait()

    store = Proxy("p0", Valkey(Path())).store
    shares = EventShares(
        "p0",
        store.link,
        b"",
        feed=Feed(lambda source, replica: None, forget),
        holdings=make_router(1).holdings,
        peers=store.loads,
        hears=lambda: True,
    )
    [replica] = make_router(1).replicas
    shares.follow(SOURCES[0], replica)
    await shares._divide({"p0"})
    assert shares.own == 1
    dividing = asyncio.create_task(shares._divide({"p1"}))
    await began.wait()
    await shares.forget(SOURCES[0])
    go_on.set()
    await dividing
    assert (shares.own, shares.others, shares._owners, shares._by_key) == (0, 0, {}, {})
