import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from kvproxy.admin.doctor.ear import Ear
from kvproxy.admin.doctor.facts import EventFacts
from kvproxy.core.kv_sources import KvSource
from loadgen.emulator.publisher import KvPublisher
from tests.support.fault_proxy import Fault, FaultProxy, Kind

BLOCK = list(range(16))
OTHER = list(range(16, 32))


def stored(name: int, tokens: list[int]) -> list[Any]:
    told = {"type": "BlockStored", "block_hashes": [name], "parent_block_hash": None}
    return [told | {"token_ids": tokens, "block_size": 16, "lora_id": None, "medium": "GPU"}]


@asynccontextmanager
async def published() -> AsyncIterator[KvPublisher]:
    publisher = KvPublisher(topic="", buffer_steps=100)
    await publisher.start("127.0.0.1")
    try:
        yield publisher
    finally:
        await publisher.close()


def events(publisher: KvPublisher, *, replay: bool = True, port: int = 0) -> EventFacts:
    again = f"tcp://127.0.0.1:{publisher.replay_port}" if replay else ""
    endpoint = f"tcp://127.0.0.1:{port or publisher.port}"
    return EventFacts(told=True, sources=[KvSource("r0", 0, endpoint, again, "")])


@contextmanager
def busy(publisher: KvPublisher) -> Iterator[None]:
    """Others are served all the time."""

    async def serve() -> None:
        while True:
            publisher.publish(stored(1, OTHER))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(serve())
    try:
        yield
    finally:
        task.cancel()


async def test_the_name_is_heard_among_others() -> None:
    hashes: dict[int, str] = {}
    async with published() as publisher, Ear(events(publisher, replay=False), BLOCK) as ear:
        # Shaken hands; that we listen to everything comes behind that.
        await asyncio.sleep(0.1)
        publisher.publish(stored(1, OTHER))
        publisher.publish(stored(0xABC, BLOCK))
        await ear.listen(-1, hashes)
    assert hashes == {0: f"{0xABC:016x}"}


async def test_a_publisher_that_is_slow_to_know_of_us_is_waited_for() -> None:
    """What it publishes before nobody hears, and a busy machine makes all of them slow."""
    hashes: dict[int, str] = {}
    async with published() as publisher:
        front = FaultProxy("127.0.0.1", publisher.port)
        front.fault = Fault(Kind.SLOW, delay_s=0.1, piece=1024)
        await front.start()
        port = int(front.url.rpartition(":")[2])
        try:
            async with Ear(events(publisher, replay=False, port=port), BLOCK) as ear:
                # That we listen is on its way; what led to it took twice as long.
                await asyncio.sleep(0.2)
                publisher.publish(stored(7, BLOCK))
                await ear.listen(-1, hashes)
        finally:
            await front.stop()
    assert hashes == {0: f"{7:016x}"}


async def test_what_was_missed_is_asked_again() -> None:
    hashes: dict[int, str] = {}
    async with published() as publisher, Ear(events(publisher), BLOCK) as ear:
        publisher.drop_next = 1
        publisher.publish(stored(7, BLOCK))
        publisher.publish(stored(1, OTHER))
        await ear.listen(0, hashes)
    assert hashes == {0: f"{7:016x}"}


async def test_a_busy_replica_that_does_not_tell_is_not_listened_to_for_ever() -> None:
    hashes: dict[int, str] = {}
    async with published() as publisher, Ear(events(publisher), BLOCK) as ear, asyncio.timeout(5):
        with busy(publisher):
            await ear.listen(-1, hashes)
    assert hashes == {}


async def test_nobody_is_there() -> None:
    deaf = EventFacts(deaf=["tcp://127.0.0.1:9"], silent_replays=["tcp://127.0.0.1:9"])
    deaf.sources = [KvSource("r0", 0, "tcp://127.0.0.1:9", "tcp://127.0.0.1:9", "")]
    hashes: dict[int, str] = {}
    async with asyncio.timeout(2), Ear(deaf, BLOCK) as ear:
        await ear.listen(-1, hashes)
    async with asyncio.timeout(2), Ear(EventFacts(), []) as ear:
        await ear.listen(-1, hashes)
    assert hashes == {}
