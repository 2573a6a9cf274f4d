"""A replica with an empty cache is sent what prompts begin with, behind its own work."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from kvproxy.adapters.warm_up import WarmUp
from kvproxy.core.dialects import BY_NAME
from kvproxy.core.hot_prefixes import HotPrefixes
from kvproxy.core.life_cycle import Health
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from tests.support.makers import make_reader, make_replica
from tests.support.proxies import eventually, pins
from tests.support.recording import RecordingReplica, answer, recording

PATH = "/v1/chat/completions"


def hot(count: int = 2) -> HotPrefixes:
    made = HotPrefixes(2**20)
    for index in range(count):
        system = {"role": "system", "content": f"{index} be good. " * 800}
        raw = orjson.dumps({"model": "m", "messages": [system, {"role": "user", "content": "x"}]})
        for _ in range(2):
            made.used(make_reader().read(BY_NAME["chat"], "", raw), PATH, raw, time.monotonic())
    return made


@asynccontextmanager
async def warming(
    engine: RecordingReplica, health: Health = Health.READY, prefixes_max: int = 4
) -> AsyncIterator[tuple[WarmUp, Replica, list[Replica]]]:
    changed: list[Replica] = []
    warm = WarmUp(
        hot(),
        Ruler(100),
        prefixes_max=prefixes_max,
        timeout_s=5.0,
        clock=time.monotonic,
        changed=changed.append,
        api_keys={"r": "secret"},
    )
    try:
        yield warm, make_replica("r", url=engine.url, health=health), changed
    finally:
        await warm.close()


async def test_it_is_sent_once_and_the_cache_is_known_to_hold_it() -> None:
    async with recording() as [engine], warming(engine) as (warm, replica, _):
        warm.came(replica)
        warm.came(replica)
        await eventually(lambda: warm.counts["sent"] == 2)
        await eventually(lambda: not warm._running)
        warm.came(replica)
        assert len(engine.received) == 2
        assert (engine.received[0].target, replica.load.in_flight) == (PATH, 0)
        assert (b"Authorization", b"Bearer secret") in engine.received[0].headers or any(
            name.lower() == b"authorization" for name, _ in engine.received[0].headers
        )
        assert replica.hbm.size > 2000
        assert pins(replica.hbm) == 0


async def test_it_proves_a_replica_that_has_to() -> None:
    async with recording() as [engine], warming(engine, Health.PROBING) as (warm, replica, changed):
        warm.came(replica)
        await eventually(lambda: bool(changed))
        assert replica.health is Health.READY


async def test_work_goes_first() -> None:
    async with recording() as [engine], warming(engine) as (warm, replica, _):
        hold = replica.load.reserve("r", 1.0, time.monotonic())
        warm.came(replica)
        await eventually(lambda: bool(warm._running))
        assert engine.received == []
        replica.load.release(hold, time.monotonic())
        await eventually(lambda: len(engine.received) == 2)


async def test_what_fails_is_counted_and_believed_of_nobody() -> None:
    async with recording() as [engine], warming(engine) as (warm, replica, _):
        engine.script = lambda received: answer(status="400 Bad Request")
        warm.came(replica)
        await eventually(lambda: warm.counts["failed"] == 2)
        assert replica.hbm.runs == 0
        assert replica.load.in_flight == 0


async def test_it_can_be_turned_off() -> None:
    async with recording() as [engine], warming(engine, prefixes_max=0) as (warm, replica, _):
        warm.came(replica)
        assert not warm._running
