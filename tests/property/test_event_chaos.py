"""An event stream that loses, repeats and reorders batches, and whose engine restarts: whatever
happens, after one resync the index holds nothing that the engine does not."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.adapters.kv_event_feed import FeedLimits, KvEventFeed, _Stream
from kvproxy.core.holdings import Holdings
from kvproxy.core.kv_events import decode_batch
from kvproxy.core.kv_sources import KvSource
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.ruler import Ruler
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.types import Tier
from tests.support.makers import make_replica
from tests.support.naive_index import NaiveSource

SIZE = 4


@dataclass
class Engine:
    """Makes true batches of what it does, and keeps the last `buffer` of them."""

    random: Random
    buffer: int
    number: int = 0
    at: float = 0.0
    kept: list[tuple[int, bytes]] = field(default_factory=list)
    truth: NaiveSource = field(default_factory=NaiveSource)
    leaves: dict[int, int] = field(default_factory=dict)

    def restart(self) -> None:
        self.number, self.kept, self.truth, self.leaves = 0, [], NaiveSource(), {}

    def step(self) -> tuple[int, bytes]:
        """Store a few blocks behind a held one, or remove the tail of a chain."""
        events: list[Any] = []
        for _ in range(self.random.randrange(1, 4)):
            held = list(self.truth.held(Tier.HBM))
            if held and self.random.random() < 0.4:
                events.append(self._remove())
            else:
                events.append(self._store(held))
        if self.random.random() < 0.02:
            events.append({"type": "AllBlocksCleared"})
            self._true(events[-1])
            self.leaves.clear()
        self.at += self.random.random() + 0.001
        payload = msgspec.msgpack.encode([self.at, events, 0])
        message = (self.number, payload)
        self.kept = [*self.kept, message][-self.buffer :]
        self.number += 1
        return message

    def _true(self, event: dict[str, Any]) -> dict[str, Any]:
        [read] = decode_batch(msgspec.msgpack.encode([0.0, [event], 0])).events
        self.truth.apply(read)
        return event

    def _store(self, held: list[int]) -> dict[str, Any]:
        parent = self.random.choice([*held, 0]) if held else 0
        hashes = [self.random.getrandbits(64) | 1 for _ in range(self.random.randrange(1, 5))]
        above = parent
        for key in hashes:
            self.leaves[key] = above
            above = key
        tokens = [self.random.randrange(1000) for _ in range(SIZE * len(hashes))]
        event = {"type": "BlockStored", "block_hashes": hashes, "token_ids": tokens}
        event |= {"parent_block_hash": parent or None, "block_size": SIZE, "medium": "GPU"}
        return self._true(event)

    def _remove(self) -> dict[str, Any]:
        held = self.truth.held(Tier.HBM)
        tails = [key for key in held if key not in set(self.leaves.values())]
        key = self.random.choice(tails)
        self.leaves.pop(key, None)
        event = {"type": "BlockRemoved", "block_hashes": [key], "medium": "GPU"}
        return self._true(event)


class Feed(KvEventFeed):
    """Replays come from the engine's memory instead of a socket."""

    def __init__(self, engine: Engine, dropped: float = 0.0) -> None:
        self.dropped = dropped
        holdings = Holdings(Ruler(10), PrefixIndex(2**26), TokenChains(2**20))
        super().__init__(holdings, FeedLimits())
        self.engine = engine
        self.index = holdings.index
        self.stream = _Stream(KvSource("r", 0, "", "memory", ""), make_replica("r"))

    async def deliver(self, message: tuple[int, bytes]) -> None:
        await self._take(self.stream, [b"", message[0].to_bytes(8, "big"), message[1]])

    async def settle(self) -> None:
        await self._catch_up(self.stream)

    async def _replay(self, stream: _Stream, start: int) -> AsyncGenerator[tuple[int, bytes], None]:
        for number, payload in [kept for kept in self.engine.kept if kept[0] >= start]:
            if self.engine.random.random() >= self.dropped:
                yield number, payload
        if self.engine.random.random() < self.dropped:
            # The end marker is lost like any other message.
            raise TimeoutError

    def held(self) -> dict[int, int]:
        source = self.index.source("r", 0)
        if source is None or Tier.HBM not in source.tiers:
            return {}
        return {e: copies for e, (_, copies) in source.tiers[Tier.HBM].contents().items()}


async def play(
    seed: int, steps: int, buffer: int, *, loss: float, restarts: float, dropped: float = 0.0
) -> Feed:
    random = Random(seed)
    engine = Engine(random, buffer)
    feed = Feed(engine, dropped)
    late: list[tuple[int, bytes]] = []
    for _ in range(steps):
        if random.random() < restarts:
            engine.restart()
            # The connection breaks with its process.
            feed.stream.doubted = True
            # Its connection died with the process: what was still on it never comes.
            late.clear()
        message = engine.step()
        chance = random.random()
        if chance < loss:
            continue
        if chance < 2 * loss:
            late.append(message)
            continue
        await feed.deliver(message)
        if chance < 3 * loss:
            await feed.deliver(message)
        if late and random.random() < 0.5:
            await feed.deliver(late.pop(0))
    await feed.settle()
    await feed.close()
    return feed


@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 150),
    loss=st.sampled_from([0.0, 0.01, 0.1, 0.3]),
    restarts=st.sampled_from([0.0, 0.02, 0.1]),
)
@settings(max_examples=60)
def test_with_all_batches_kept_the_index_is_the_truth(
    seed: int, steps: int, loss: float, restarts: float
) -> None:
    feed = asyncio.run(play(seed, steps, 10_000, loss=loss, restarts=restarts))
    assert feed.held() == feed.engine.truth.held(Tier.HBM)


@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 150),
    buffer=st.integers(1, 20),
    loss=st.sampled_from([0.01, 0.1, 0.3]),
)
@settings(max_examples=60)
def test_with_truncated_replays_nothing_held_is_wrong(
    seed: int, steps: int, buffer: int, loss: float
) -> None:
    feed = asyncio.run(play(seed, steps, buffer, loss=loss, restarts=0.02))
    truth = feed.engine.truth.held(Tier.HBM)
    wrong = {key: copies for key, copies in feed.held().items() if copies > truth.get(key, 0)}
    assert not wrong


@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 100),
    loss=st.sampled_from([0.01, 0.1, 0.3]),
    dropped=st.sampled_from([0.05, 0.3, 0.9]),
)
@settings(max_examples=60)
def test_with_replays_that_lose_some_nothing_held_is_wrong(
    seed: int, steps: int, loss: float, dropped: float
) -> None:
    """Once a replay came whole."""

    async def played() -> Feed:
        feed = await play(seed, steps, 10_000, loss=loss, restarts=0.02, dropped=dropped)
        feed.dropped = 0.0
        await feed.settle()
        return feed

    feed = asyncio.run(played())
    truth = feed.engine.truth.held(Tier.HBM)
    wrong = {key: copies for key, copies in feed.held().items() if copies > truth.get(key, 0)}
    assert not wrong
    assert not feed._holdings.standing._behind


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x93\x01\x02\x03", b"\xff" * 100])
async def test_garbage_is_counted_and_skipped(payload: bytes) -> None:
    engine = Engine(Random(1), 100)
    feed = Feed(engine)
    await feed.deliver((0, payload))
    assert feed.stream.counts.refused == 1
    await feed.deliver(engine.step())
    assert feed.held() == engine.truth.held(Tier.HBM)
    await feed.close()
