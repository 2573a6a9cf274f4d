"""Proxies that listen to a share of the replicas and tell each other what they hear: what is
predicted for conversations that hop from one to the other, as if each listened to all."""

from contextlib import AsyncExitStack

import pytest

from kvproxy.app import App
from kvproxy.core.types import Tier
from loadgen.emulator import Fleet
from tests.integration.test_kv_events import ENGINE, SECTIONS, Run, replay
from tests.support.proxies import eventually, proxied, settled
from tests.support.valkey import valkey

REPLICAS = PROXIES = 3


def followed(app: App) -> set[str]:
    return {source.replica for source in app.sources.feed.sources}


def knows_all(app: App) -> bool:
    behind = app.router.holdings.standing.any_behind
    return all(replica.kv_events and not behind(replica.id) for replica in app.router.replicas)


def held(app: App) -> dict[str, int]:
    """Blocks that are known to be announced, by replica, of those that hold any: few conversations
    may go to two of three, and who listens to the third has no entry for it, the others an empty
    one."""
    counts = {
        replica: len(source.tiers.get(Tier.HBM, ()))
        for replica, _, source in app.router.holdings.index
    }
    return {replica: count for replica, count in counts.items() if count}


async def hopping(conversations: int, *, sharded: bool) -> Run:
    fleet = Fleet(ENGINE, REPLICAS)
    await fleet.start()
    try:
        async with valkey() as server, AsyncExitStack() as stack:
            sections = SECTIONS | {
                "events": {"enabled": "on", "shard_across_proxies": sharded},
                "store": {"url": server.url, "deadline_s": 2.0},
            }
            proxies = [
                await stack.enter_async_context(proxied(fleet.urls, **sections))
                for _ in range(PROXIES)
            ]
            apps = [proxy.app for proxy in proxies]
            await eventually(lambda: all(knows_all(app) for app in apps), 30.0)
            assert sum(len(followed(app)) for app in apps) == REPLICAS * (1 if sharded else PROXIES)
            run = await replay(*(proxy.url for proxy in proxies), conversations=conversations)
            print(f"sharded {sharded}: {run}")
            for app in apps:
                await settled(app)
            await eventually(lambda: any(held(apps[0]).values()), 30.0)
            await eventually(lambda: all(held(app) == held(apps[0]) for app in apps), 30.0)
            assert held(apps[0])
            return run
    finally:
        await fleet.stop()


async def test_who_does_not_listen_is_told() -> None:
    run = await hopping(4, sharded=True)
    assert run.right >= 0.8


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_who_does_not_listen_predicts_as_well_as_who_does() -> None:
    listening, told = await hopping(20, sharded=False), await hopping(20, sharded=True)
    assert told.right >= listening.right - 0.1
