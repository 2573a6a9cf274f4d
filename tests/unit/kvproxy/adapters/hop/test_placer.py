"""A worker's Placer: what it asks, what it does alone, and what it tells afterwards."""

import asyncio
import json

import pytest

from kvproxy.core.errors import ProxyError
from kvproxy.core.explain import describe
from kvproxy.core.life_cycle import Evidence, Health
from kvproxy.core.router import Placement
from kvproxy.proxy import Record
from tests.support.hops import Hop, make_record, usage_of

TEXTS = [f"{n} " * 1500 for n in range(5)]


def body(texts: list[str]) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"model": "m", "messages": messages}).encode()


async def placed(world: Hop, worker: int, record: Record) -> Placement:
    placing = asyncio.ensure_future(world.workers[worker].place(record, frozenset()))
    await world.settle()
    return placing.result()


async def test_a_conversation_stays_whichever_worker_it_comes_to() -> None:
    world, homes = Hop(count=2), set()
    for number in range(1, 5):
        record = make_record(body(TEXTS[:number]))
        placement = await placed(world, number % 2, record)
        homes.add(placement.replica.id)
        world.workers[number % 2].first_token(placement)
        record.usage = usage_of(record, placement.predicted_cached_tokens)
        world.workers[number % 2].finish(record, placement)
        await world.settle()
        assert record.step is not None
        assert record.step.thread.turns == number
        assert record.verdict.cause == ""
    assert len(homes) == 1
    assert b"predicted_cached_tokens" in describe(placement)
    assert placement.predicted_cached_tokens > 1000
    assert len(world.hops) == 4 or not any(world.hops)
    assert world.placement.at_rest()


async def test_alone_it_goes_on_and_what_it_holds_is_told_later() -> None:
    world = Hop(count=2)
    before = await placed(world, 0, make_record(body(TEXTS[:2]), "a"))
    world.workers[0].first_token(before)
    for worker in range(2):
        world.link(worker).leave()
    alone = make_record(body(TEXTS[:1]), "b")
    during = await world.workers[0].place(alone, frozenset())
    assert world.alone == ["lost"]
    assert await world.workers[0].may_retry("m", frozenset({"r0"}))
    world.restart_placement()
    await world.settle()
    loads = {r.id: r.load.in_flight for r in world.placement.router.replicas if r.load.in_flight}
    expected: dict[str, int] = {}
    for placement in (before, during):
        expected[placement.replica.id] = expected.get(placement.replica.id, 0) + 1
    assert loads == expected
    alone.usage = usage_of(alone)
    world.workers[0].first_token(during)
    world.workers[0].finish(alone, during)
    world.workers[0].abort(before)
    await world.settle()
    assert world.placement.at_rest()
    assert world.eras == 4


async def test_a_full_link_is_gone_round() -> None:
    world = Hop()
    world.link(0).full = True
    record = make_record(body(TEXTS))
    placement = await world.workers[0].place(record, frozenset())
    assert world.alone == ["full"]
    record.usage = usage_of(record)
    world.workers[0].finish(record, placement)
    await world.settle()
    assert world.placement.at_rest()


@pytest.mark.parametrize("delivered", [0, 1, 2])
async def test_a_cancelled_request_leaves_nothing(delivered: int) -> None:
    world = Hop()
    placing = asyncio.ensure_future(world.workers[0].place(make_record(body(TEXTS)), frozenset()))
    await asyncio.sleep(0)
    if delivered > 0:
        world.link(0).deliver()
    if delivered > 1:
        world.placement.deliver()
    placing.cancel()
    await asyncio.gather(placing, return_exceptions=True)
    assert placing.cancelled()
    await world.settle()
    assert world.placement.at_rest()
    assert world.workers[0].claims == {}


async def test_refusals_come_through() -> None:
    world = Hop()
    for replica in world.placement.router.replicas:
        replica.models = ("other",)
    placing = asyncio.ensure_future(world.workers[0].place(make_record(body(TEXTS)), frozenset()))
    await world.settle()
    with pytest.raises(ProxyError) as raised:
        placing.result()
    assert raised.value.code == "model_not_found"


async def test_a_request_that_is_no_prompt_goes_anywhere() -> None:
    world = Hop()
    record = make_record(body(TEXTS))
    record.turn = record.identity = None
    placement = await placed(world, 0, record)
    world.workers[0].abort(placement)
    await world.settle()
    assert world.placement.at_rest()


async def test_replicas_are_as_the_placement_process_sees_them() -> None:
    world = Hop()
    replica = world.workers[0].router.replicas[0]
    world.workers[0].seen(await placed(world, 0, make_record(body(TEXTS))), Evidence.FAILED)
    assert replica.health is Health.READY
    from kvproxy.core import hop

    state = hop.ReplicaState("r0", "http://r0", "ejected", ["m"], True, 77, 32, 1.0, None)
    world.workers[0].heard(
        hop.State([state, hop.ReplicaState("x", "", "ready", [], False, 1, 1, 1.0, None)])
    )
    assert (replica.health, replica.models, replica.kv_events) == (Health.EJECTED, ("m",), True)
    assert (replica.hbm_tokens, replica.block_size) == (77, 32)
