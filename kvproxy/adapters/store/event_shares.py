"""Each proxy listens to its share of the replicas' KV events and tells the others what it learned.

Replicas are divided by rendezvous over the proxies that are heard, so all divide them alike; where
one comes or goes, only its share changes hands. While the store is away nobody can tell who is
gone: each goes on with its own share, and what was sent to the other replicas decides about those.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from redis.asyncio.client import PubSub

from kvproxy.adapters.store.link import FAILURES, Command, Link, end
from kvproxy.adapters.store.writer import HEARTBEAT_S
from kvproxy.background import keep
from kvproxy.core.holdings import Holdings
from kvproxy.core.kv_digest import Digest, digest_bytes, told_from, wanted_bytes
from kvproxy.core.kv_outlet import Outlet
from kvproxy.core.kv_sources import KvSource, SourceKey
from kvproxy.core.peer_loads import PeerLoads
from kvproxy.core.pick import one_of
from kvproxy.core.replica import Replica
from kvproxy.core.second_hand import SecondHand
from kvproxy.core.shared_words import WordError

_TICK_S = 0.05
_RETRY_S = 0.5
# Others are heard for so long before shares are believed.
_SETTLE_S = 2.5 * HEARTBEAT_S
# After an outage those known before it are missed only now.
_RETURN_S = 5 * HEARTBEAT_S
# Of what is held, at once; changes are told whatever they are.
_HELD_BLOCKS = 16_384
log = logging.getLogger("kvproxy.store")


class Feed(NamedTuple):
    """What listens to sources."""

    follow: Callable[[KvSource, Replica], None]
    forget: Callable[[KvSource], Awaitable[None]]


class EventShares:
    """follow() and forget() are told of all sources. `hears` says whether others are heard."""

    def __init__(
        self,
        origin: str,
        link: Link,
        channel: bytes,
        *,
        feed: Feed,
        holdings: Holdings,
        peers: PeerLoads,
        hears: Callable[[], bool],
    ) -> None:
        self.origin = origin
        self._link = link
        self._channel = channel
        self._feed = feed
        self._holdings = holdings
        self._peers = peers
        self._hears = hears
        self._heard_since: float | None = None
        self._known: set[str] = set()
        self._sources: dict[KvSource, Replica] = {}
        self._owners: dict[KvSource, str] = {}
        self._by_key: dict[SourceKey, KvSource] = {}
        self._outlets: dict[SourceKey, Outlet] = {}
        self.second_hand = SecondHand(holdings)
        self.told = self.refused = self.told_bytes = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def own(self) -> int:
        """Sources that this proxy listens to."""
        return len(self._outlets)

    @property
    def others(self) -> int:
        return len(self._sources) - len(self._outlets)

    def follow(self, source: KvSource, replica: Replica) -> None:
        self._sources.setdefault(source, replica)
        self._by_key[source.replica, source.rank] = source

    async def forget(self, source: KvSource) -> None:
        if self._sources.pop(source, None) is not None:
            key = (source.replica, source.rank)
            if self._by_key.get(key) == source:
                del self._by_key[key]
            await self._hand_over(source, self._owners.pop(source, ""))
            self.second_hand.forget(key)

    def start(self) -> None:
        self._tasks = [
            keep("digest_telling", self._telling),
            keep("digest_hearing", self._hearing),
            keep("event_dividing", self._dividing),
        ]

    async def close(self) -> None:
        await end(self._tasks)

    async def _dividing(self) -> None:
        while True:
            now = time.monotonic()
            if not self._hears():
                self._heard_since = None
            elif self._heard_since is None:
                self._heard_since = now
            elif now - self._heard_since >= _SETTLE_S:
                alive = self._peers.alive(now)
                if now - self._heard_since < _RETURN_S:
                    # Those who were there before the store went away are given time to come back.
                    alive |= self._known
                else:
                    self._known = alive
                await self._divide({self.origin, *alive})
                await self._ask()
            await asyncio.sleep(HEARTBEAT_S)

    async def _divide(self, proxies: set[str]) -> None:
        for source, replica in list(self._sources.items()):
            owner = one_of(source.replica.encode(), proxies)
            was = self._owners.get(source, "")
            if owner == was or source not in self._sources:
                continue
            # Nobody's meanwhile: it may be forgotten before this goes on.
            self._owners.pop(source, None)
            await self._hand_over(source, was)
            if source not in self._sources:
                continue
            key = (source.replica, source.rank)
            self.second_hand.forget(key)
            self._owners[source] = owner
            if owner == self.origin:
                self._outlets[key] = Outlet(self.origin, key, self._holdings)
                self._feed.follow(source, replica)

    async def _hand_over(self, source: KvSource, was: str) -> None:
        if was == self.origin:
            outlet = self._outlets.pop((source.replica, source.rank), None)
            if outlet is not None:
                outlet.close()
            await self._feed.forget(source)

    async def _ask(self) -> None:
        """Others are asked for all that they hold of what is not known here."""
        owners = self._owners.items()
        theirs = [(s.replica, s.rank) for s, owner in owners if owner != self.origin]
        unknown = self.second_hand.unknown(theirs)
        if unknown and self._link.up:
            with contextlib.suppress(*FAILURES):
                await self._link.send([("PUBLISH", self._channel, wanted_bytes(unknown[:4096]))])

    async def _telling(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            if not self._link.up:
                continue
            try:
                # A digest that is lost is missed by its number, and asked for.
                commands = self._digests()
                if commands:
                    await self._link.send(commands)
            except FAILURES as error:
                log.debug("digests were lost: %r", error)

    def _digests(self) -> list[Command]:
        now, room, commands = time.monotonic(), _HELD_BLOCKS, list[Command]()
        for outlet in self._outlets.values():
            digest = outlet.take(room, now)
            if digest is not None:
                data = digest_bytes(digest)
                room -= len(data) // 16
                commands.append(("PUBLISH", self._channel, data))
                self.told += 1
                self.told_bytes += len(data)
        return commands

    async def _hearing(self) -> None:
        while True:
            listener = self._link.listener()
            try:
                await listener.subscribe(self._channel)
                await self._listen(listener)
            except FAILURES as error:
                log.debug("digests are not heard: %r", error)
            finally:
                self.second_hand.lose_all()
                with contextlib.suppress(*FAILURES):
                    await listener.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(_RETRY_S)

    async def _listen(self, listener: PubSub) -> None:
        while True:
            message = await listener.get_message(timeout=HEARTBEAT_S)
            if message is not None:
                self._hear(message["data"])
                # Digests may come thick; requests go between them.
                await asyncio.sleep(0)
            elif not self._hears():
                raise TimeoutError("the store is not heard")

    def _hear(self, data: object) -> None:
        try:
            told = told_from(data if isinstance(data, bytes) else b"")
            if not isinstance(told, Digest):
                now = time.monotonic()
                for key in told.sources:
                    if key in self._outlets:
                        self._outlets[key].want(now)
            elif told.origin != self.origin:
                self._take(told)
        except WordError as error:
            self.refused += 1
            log.debug("a digest was refused: %s", error)

    def _take(self, told: Digest) -> None:
        """From whom listens there by this proxy's own count, and no other."""
        source = self._by_key.get((told.replica, told.rank))
        if source is None or self._owners.get(source) != told.origin:
            return
        if self.second_hand.hear(told):
            self._sources[source].kv_events = True
