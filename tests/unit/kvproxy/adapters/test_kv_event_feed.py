"""The feed on real sockets, against the emulator's publisher."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq
import zmq.asyncio

from kvproxy import background
from kvproxy.adapters import kv_event_feed
from kvproxy.adapters.kv_event_feed import FeedCounts, FeedLimits, KvEventFeed
from kvproxy.core.holdings import Holdings
from kvproxy.core.kv_events import Event
from kvproxy.core.kv_sources import KvSource
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.token_chain import TokenChains
from loadgen.emulator.publisher import KvPublisher
from tests.support.makers import make_replica
from tests.support.proxies import eventually


def stored(*hashes: int, parent: int | None = None) -> dict[str, Any]:
    tokens = [key * 10 + n for key in hashes for n in range(4)]
    return {"type": "BlockStored", "block_hashes": list(hashes), "parent_block_hash": parent,
            "token_ids": tokens, "block_size": 4, "medium": "GPU"}  # fmt: skip


class Listening:
    def __init__(
        self, publisher: KvPublisher, *, replays: bool = True, idle_s: float = 0.1
    ) -> None:
        self.holdings = Holdings(Ruler(10), PrefixIndex(2**26), TokenChains(2**20))
        self.replica: Replica = make_replica("r")
        self.feed = KvEventFeed(self.holdings, FeedLimits(idle_s=idle_s, replay_timeout_s=1.0))
        replay = f"tcp://127.0.0.1:{publisher.replay_port}" if replays else ""
        self.source = KvSource("r", 0, f"tcp://127.0.0.1:{publisher.port}", replay, "kv@")
        self.feed.follow(self.source, self.replica)

    @property
    def counts(self) -> FeedCounts:
        return self.feed.counts[self.source]

    def held(self) -> set[int]:
        source = self.holdings.index.source("r", 0)
        return {key for t in source.tiers.values() for key in t.contents()} if source else set()

    async def holds(self, *engines: int) -> None:
        await eventually(lambda: self.held() == set(engines))


@asynccontextmanager
async def published(buffer: int = 100, **given: Any) -> AsyncIterator[KvPublisher]:
    publisher = KvPublisher(topic="kv@a", buffer_steps=buffer, **given)
    await publisher.start("127.0.0.1")
    try:
        yield publisher
    finally:
        await publisher.close()


@asynccontextmanager
async def listening(publisher: KvPublisher, **given: Any) -> AsyncIterator[Listening]:
    heard = Listening(publisher, **given)
    try:
        yield heard
    finally:
        await heard.feed.close()


@pytest.mark.parametrize("frames", [3, 4])
async def test_what_came_before_is_replayed_and_what_follows_is_heard(frames: int) -> None:
    async with published(frames=frames) as publisher:
        publisher.publish([stored(1, 2)])
        async with listening(publisher) as heard:
            await heard.holds(1, 2)
            assert heard.replica.kv_events
            publisher.publish([stored(3, parent=2)])
            await heard.holds(1, 2, 3)


async def test_lost_and_repeated_batches_are_made_good() -> None:
    async with published() as publisher, listening(publisher) as heard:
        publisher.publish([stored(1)])
        await heard.holds(1)
        publisher.drop_next = 2
        publisher.publish([stored(2, parent=1)])
        publisher.publish([stored(3, parent=2)])
        publisher.repeat_next = 1
        publisher.publish([stored(4, parent=3)])
        await heard.holds(1, 2, 3, 4)
        assert heard.counts.resyncs == heard.counts.restarts == 0
        assert heard.counts.batches == 4


async def test_the_last_batch_may_be_the_lost_one() -> None:
    async with published() as publisher, listening(publisher) as heard:
        publisher.publish([stored(1)])
        await heard.holds(1)
        publisher.drop_next = 1
        publisher.publish([{"type": "AllBlocksCleared"}])
        await heard.holds()


async def test_a_truncated_replay_drops_what_was_known() -> None:
    async with published(buffer=1) as publisher, listening(publisher) as heard:
        publisher.publish([stored(1)])
        await heard.holds(1)
        publisher.drop_next = 3
        for key in (2, 3, 4):
            publisher.publish([stored(key)])
        publisher.publish([stored(5)])
        await heard.holds(5)
        assert heard.counts.resyncs >= 1
        assert heard.counts.restarts == 0


async def test_a_replay_that_breaks_off_is_asked_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_event_feed, "_PAUSE_S", 0.05)
    async with published() as publisher:
        publisher.replay_most = 4
        for key in range(1, 11):
            publisher.publish([stored(key)])
        async with listening(publisher) as heard:
            await heard.holds(*range(1, 11))
            await eventually(lambda: not heard.holdings.standing._behind)
            assert heard.counts.cut >= 2
            assert heard.counts.resyncs == heard.counts.restarts == 0


async def test_without_replays_a_gap_costs_what_was_known() -> None:
    async with published() as publisher, listening(publisher, replays=False) as heard:

        def heard_any() -> bool:
            publisher.publish([stored(publisher.next + 1)])
            return bool(heard.held())

        await eventually(heard_any)
        publisher.drop_next = 1
        publisher.publish([stored(100_001)])
        publisher.publish([stored(100_002)])
        await heard.holds(100_002)


async def test_a_restarted_engine_begins_with_nothing() -> None:
    async with published() as first:
        first.publish([stored(1)])
        first.publish([stored(2)])
        async with listening(first) as heard:
            await heard.holds(1, 2)
            end, _ = heard.replica.hbm.pin([7])
            heard.replica.hbm.release(heard.replica.hbm.extend(end, [7], [100]))
            await first.close()
            second = KvPublisher(topic="kv@a", buffer_steps=100)
            await second.start("127.0.0.1", first.port, first.replay_port)
            second.publish([stored(9)])
            second.publish([stored(10)])
            await heard.holds(9, 10)
            assert heard.counts.restarts == 1
            assert heard.replica.hbm.size == 0
            await second.close()


async def test_another_engine_is_noticed_though_its_numbers_seem_to_follow() -> None:
    """The first batch after the restart gets lost: the second has the number that is expected."""
    async with published() as publisher, listening(publisher, idle_s=100.0) as heard:
        publisher.publish([stored(1, 2)])
        await heard.holds(1, 2)
        await publisher.close()
        again = KvPublisher(topic="kv@a", buffer_steps=100)
        again.drop_next = 1
        await again.start("127.0.0.1", publisher.port, publisher.replay_port)
        try:
            again.publish([stored(3)])
            again.publish([stored(4, parent=3)])
            number, payload = again._kept[1]

            def heard_both() -> bool:
                # Told until somebody is connected again; what comes twice is dropped.
                assert again._pub is not None
                again._pub.send_multipart([b"kv@a", number.to_bytes(8, "big"), payload])
                return heard.held() == {3, 4}

            await eventually(heard_both)
            assert heard.counts.restarts == 1
        finally:
            await again.close()


async def test_garbage_is_counted_and_the_rest_is_heard() -> None:
    context = zmq.asyncio.Context()
    async with published() as publisher, listening(publisher) as heard:
        publisher.publish([stored(1)])
        await heard.holds(1)
        publisher.publish([stored(2) | {"token_ids": [-1, 0, 0, 0]}])
        publisher.publish([stored(3)])
        await heard.holds(1, 3)
        assert heard.counts.refused == 1
    context.destroy(linger=0)


async def test_behind_a_fault_of_ours_all_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_AGAIN_S", 0.0)
    async with published() as publisher, listening(publisher) as heard:
        publisher.publish([stored(1)])
        await heard.holds(1)
        apply, faults = heard.holdings.apply, [KeyError("what nobody thought of")]

        def faulty(replica: str, rank: int, event: Event) -> None:
            if faults:
                raise faults.pop()
            apply(replica, rank, event)

        monkeypatch.setattr(heard.holdings, "apply", faulty)
        publisher.publish([stored(2)])
        await heard.holds(1, 2)
        assert heard.counts.resyncs == 1
    assert "what nobody thought of" in caplog.text


@pytest.mark.parametrize(
    ("endpoint", "replay", "amiss"),
    [("nonsense", "", "cannot be heard"), ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", "replay")],
)
async def test_what_is_amiss_is_said_once(
    endpoint: str,
    replay: str,
    amiss: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(kv_event_feed, "_RETRY_S", 0.01)
    holdings = Holdings(Ruler(10), PrefixIndex(2**26), TokenChains(2**20))
    feed = KvEventFeed(holdings, FeedLimits(idle_s=0.01, replay_timeout_s=0.01))
    feed.follow(KvSource("r", 0, endpoint, replay, ""), make_replica("r"))
    await eventually(lambda: bool(caplog.records))
    await asyncio.sleep(0.2)
    await feed.close()
    assert [amiss in record.message for record in caplog.records] == [True]


async def test_forgetting_a_source_drops_what_it_told() -> None:
    async with published() as publisher, listening(publisher) as heard:
        publisher.publish([stored(1)])
        await heard.holds(1)
        await heard.feed.forget(heard.source)
        assert heard.held() == set()
        assert heard.feed.sources == []
