"""Replicas that come and go for good, as pods do: nothing keeps the names of those that went, but
for what is bounded by itself.
"""

import gc
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from types import FrameType, FunctionType, ModuleType

from kvproxy.settings.replica import ReplicaSettings
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.recording import RecordingReplica, recording
from tests.support.wire import ask, post, request

# What is kept of those that went: metrics of 256, and what the smallest bounds below allow.
KEPT = 256 + 150
CHURN = 700
SMALL = {
    "explain": {"requests_max_bytes": 2**16, "sessions_max_bytes": 2**16},
    "identify": {"max_sessions": 10},
    "probe": {"interval_s": 0.02},
    "events": {"enabled": "auto"},
}


def reached(start: object) -> Iterator[object]:
    """All that is reachable, but for code and what every program has."""
    seen, todo = {id(start)}, [start]
    while todo:
        each = todo.pop()
        yield each
        for found in gc.get_referents(each):
            if isinstance(found, ModuleType | FrameType | FunctionType | type):
                continue
            if id(found) not in seen:
                seen.add(id(found))
                todo.append(found)


def remembered(proxy: Running) -> set[str]:
    names = (each for each in reached(proxy.app) if isinstance(each, str))
    return {name for name in names if name.startswith("pod-")}


async def come_and_go(proxy: Running, replica: RecordingReplica, name: str) -> None:
    table = proxy.app.table
    made = table.add(ReplicaSettings(url=replica.url, id=name))
    await eventually(lambda: made.up)
    body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % name.encode()
    got = await ask(proxy.url, post(body, x_session_id=f"of-{name[3:]}"))
    assert got.header(b"x-kvproxy-replica") == name.encode()
    table.remove(name)
    await eventually(lambda: made not in proxy.app.router.replicas)


def only(url: str) -> AbstractAsyncContextManager[Running]:
    return proxied([{"url": url, "id": "spare"}], **SMALL)


async def test_nothing_keeps_the_names_of_those_that_went() -> None:
    async with recording(2) as (spare, replica), only(spare.url) as proxy:
        proxy.app.table.drain("spare")
        for number in range(CHURN):
            await come_and_go(proxy, replica, f"pod-{number}")
            # What they are asked is not of interest, only that they were.
            replica.received.clear()
        await settled(proxy.app)
        gc.collect()
        kept = remembered(proxy)
        assert len(kept) <= KEPT, sorted(kept)[:20]
        # The last ones are shown to those who read once a minute, the first ones no more.
        page = (await ask(proxy.url, request("GET", "/metrics"))).body
        assert b'replica="pod-%d"' % (CHURN - 1) in page
        assert b'replica="pod-0"' not in page
        assert proxy.app.metrics.totals()["requests"] == CHURN
