"""Placement in this process, through the port that the request path knows."""

import json

from kvproxy.core.breaks import Cause
from kvproxy.core.life_cycle import Evidence, Health
from kvproxy.core.types import Usage
from tests.support.fake_ports import World, stream

TEXTS = [f"{n} " * 1500 for n in range(6)]
USAGE = {"prompt_tokens": 4000, "completion_tokens": 2}
PARTS = stream("a", usage=USAGE)
HEADER = {"content-type": "application/json", "session-id": "s"}


def body(texts: list[str]) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"model": "m", "messages": messages}).encode()


async def test_a_conversation_is_followed_and_judged() -> None:
    world = World(PARTS)
    for texts in (TEXTS[:4], TEXTS, TEXTS[:1]):
        await world.proxy.handle(world.exchange(body(texts), header=HEADER))
    first, second, third = world.records
    assert (first.stake, first.usage) == (None, Usage(4000, 2, None))
    assert second.step is not None
    assert (second.step.thread.turns, second.verdict.cause) == (2, "")
    assert third.verdict.cause == ""
    world.assert_at_rest()


async def test_compaction_lets_a_conversation_move() -> None:
    world = World(PARTS)
    await world.proxy.handle(world.exchange(body(TEXTS), header=HEADER))
    assert world.router.affinity.sessions(world.upstream.tried[0]) == 1
    summary = [TEXTS[0], "a summary " * 100]
    await world.proxy.handle(world.exchange(body(summary), header=HEADER))
    record = world.records[1]
    assert record.step is not None
    assert record.step.cause is Cause.COMPACTION
    assert record.verdict.lost_tokens > 0


async def test_a_failure_is_doubted_and_retries_are_paid_for() -> None:
    world = World(PARTS, replicas=1)
    await world.proxy.handle(world.exchange(body(TEXTS), header=HEADER))
    placement = world.records[0].placement
    assert placement is not None
    for _ in range(3):
        world.placer.seen(placement, Evidence.FAILED)
    assert placement.replica.health is Health.EJECTED
    assert world.doubted == [placement.replica] * 3
    before = world.placer.retries.left
    assert await world.placer.may_retry("m", frozenset())
    assert world.placer.retries.left == before - 1
    assert not await world.placer.may_retry("m", frozenset({"r0"}))
    assert world.placer.retries.left == before - 1
