"""The placement process's side of claims; deaths at any moment are in tests/property."""

import asyncio
import json
from hashlib import sha256

import pytest

from kvproxy.core import hop
from kvproxy.core.access import Caller, Key
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Evidence, Health
from tests.support.hops import Hop, make_record, usage_of

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x " * 4000}]}).encode()
KEY = Key("mine", sha256(b"k").hexdigest(), "t", requests_per_min=2, tokens_per_min=10_000)


async def test_a_worker_that_is_lost_holds_nothing() -> None:
    world = Hop(backlog_s=0.01)
    tasks = [
        asyncio.ensure_future(world.workers[0].place(make_record(BODY, f"s{n}"), frozenset()))
        for n in range(9)
    ]
    await world.settle()
    placed = [task for task in tasks if task.done()]
    assert 0 < len(placed) < 9
    assert world.placement.admission.length == 9 - len(placed)
    world.link(0).leave()
    assert world.placement.at_rest()
    await asyncio.gather(*tasks)
    assert set(world.alone) == {"lost"}


async def test_keys_have_their_rates_in_one_place() -> None:
    world = Hop(keys=[KEY], limited=frozenset({"mine"}))
    codes = []
    for number in range(4):
        record = make_record(BODY)
        record.caller = Caller(KEY)
        placing = asyncio.ensure_future(world.workers[number % 2].place(record, frozenset()))
        await world.settle()
        try:
            placement = placing.result()
        except ProxyError as error:
            codes.append(error.code)
            continue
        codes.append("ok")
        record.usage = usage_of(record)
        world.workers[number % 2].finish(record, placement)
        await world.settle()
    assert codes == ["ok", "ok", "rate_limited", "rate_limited"]


@pytest.mark.parametrize("left", [False, True])
async def test_what_no_usage_tells_of_costs_a_key_its_prompt(left: bool) -> None:
    world = Hop(keys=[KEY], limited=frozenset({"mine"}))
    record = make_record(BODY)
    record.caller, record.status = Caller(KEY), 200
    assert record.turn is not None
    record.turn.stream = True
    placing = asyncio.ensure_future(world.workers[0].place(record, frozenset()))
    await world.settle()
    placement = placing.result()
    world.workers[0].first_token(placement)
    if left:
        world.workers[0].abort(placement)
    else:
        world.workers[0].finish(record, placement)
    await world.settle()
    caller = world.placement.desk._access._by_name["mine"]
    used = 10_000 - caller.tokens._left
    assert used == pytest.approx(placement.placing.prompt_tokens, abs=1)
    assert used > 1000


async def test_a_failure_counts_for_all_workers_and_so_does_an_answer() -> None:
    world = Hop()
    record = make_record(BODY)
    placing = asyncio.ensure_future(world.workers[0].place(record, frozenset()))
    await world.settle()
    placement = placing.result()
    world.workers[0].seen(placement, Evidence.FAILED)
    world.link(0).deliver()
    assert world.placement.doubted == [placement.replica.id]
    replica = next(r for r in world.placement.router.replicas if r.id == placement.replica.id)
    assert replica.health is Health.SUSPECT
    world.workers[0].seen(placement, Evidence.ANSWERED)
    world.workers[0].first_token(placement)
    world.link(0).deliver()
    assert replica.health is Health.READY
    world.workers[0].abort(placement)
    await world.settle()
    assert world.placement.at_rest()


async def test_a_prompt_is_told_where_it_is_wanted() -> None:
    for wanted in (False, True):
        world = Hop()
        world.placement.wanted = wanted
        record = make_record(BODY)
        placing = asyncio.ensure_future(world.workers[0].place(record, frozenset()))
        await world.settle()
        record.usage = usage_of(record)
        world.workers[0].finish(record, placing.result())
        await world.settle()
        told = [(each.path, each.body, each.prompt_tokens) for each in world.placement.told]
        path, tokens = "/v1/chat/completions", record.usage.prompt_tokens
        assert told == ([(path, BODY, tokens)] if wanted else [])


async def test_what_is_not_known_is_left_alone() -> None:
    world = Hop()
    desk, now = world.placement.desk, world.clock()
    for message in (hop.Began(7, True), hop.Done(7, True, None, None, None), hop.Abort(7, True)):
        desk.take(1, message, now)
    desk.take(1, hop.Failed("nobody"), now)
    adopt = hop.Adopt(
        1, ("t", "m", "s", 0.0), hop.Packed(0, b"", b"", b"", b""), "nobody", 1, 0.1, True
    )
    desk.take(1, adopt, now)
    assert world.placement.at_rest()
    with pytest.raises(hop.BrokenHopError):
        desk.take(1, hop.Hello("again", 1), now)


async def test_a_retry_is_not_a_new_turn() -> None:
    world = Hop()
    record, worker = make_record(BODY), world.workers[0]
    first = asyncio.ensure_future(worker.place(record, frozenset()))
    await world.settle()
    placement = first.result()
    worker.abort(placement)
    again = asyncio.ensure_future(worker.place(record, frozenset({placement.replica.id})))
    await world.settle()
    assert again.result().replica is not placement.replica
    assert record.step is not None
    assert record.step.thread.turns == 1
    record.usage = usage_of(record)
    worker.finish(record, again.result())
    await world.settle()
    assert world.placement.at_rest()
    assert budget(world) == 256.0


def budget(world: Hop) -> float:
    return world.placement.desk.retries.left


async def test_who_asks_to_be_left_alone_is_so_by_all_workers() -> None:
    world = Hop(count=2)
    record = make_record(BODY, "s")
    placing = asyncio.ensure_future(world.workers[0].place(record, frozenset()))
    await world.settle()
    home = placing.result()
    world.workers[0].seen(home, Evidence.ANSWERED, 30.0)
    world.workers[0].abort(home)
    world.placement.desk.take(0, hop.Declined("nobody", 30.0), world.clock())
    await world.settle()
    for number in (0, 1):
        again = asyncio.ensure_future(
            world.workers[number].place(make_record(BODY, "s"), frozenset())
        )
        await world.settle()
        assert again.result().replica.id != home.replica.id
        world.workers[number].abort(again.result())
    await world.settle()
    assert world.placement.at_rest()
