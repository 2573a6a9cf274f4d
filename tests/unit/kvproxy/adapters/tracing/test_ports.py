"""What the ports note; that they change nothing else."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from kvproxy.adapters.tracing.ports import RUNNING, TracedPlacer, TracedReader, TracedUpstream
from kvproxy.core.errors import ProxyError
from kvproxy.core.trace import LEGS_MAX, Trace
from kvproxy.core.trace_context import Parent, parent_of
from tests.support.fake_ports import World, stream

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()


@pytest.fixture
def trace() -> Iterator[Trace]:
    trace = Trace("a" * 32, "b" * 16, 1, Parent("a" * 32, "c" * 16, 1))
    token = RUNNING.set(trace)
    yield trace
    RUNNING.reset(token)


def traced(world: World) -> World:
    """The world's own proxy, seen."""
    from dataclasses import replace

    proxy = world.proxy
    world.proxy = replace(
        proxy,
        reader=TracedReader(proxy.reader, world.clock),
        placer=TracedPlacer(proxy.placer, world.clock),
        upstream=TracedUpstream(proxy.upstream, world.clock),
    )
    return world


async def test_a_request_is_noted_in_the_order_of_its_steps(trace: Trace) -> None:
    world = traced(World(stream("a")))
    exchange = world.exchange(BODY)
    await world.proxy.handle(exchange)
    (wait,), (leg,) = trace.waits, trace.legs
    times = [trace.accepted, trace.identified, wait.began, wait.ended, leg.began, leg.ended]
    noted = [time for time in [*times, trace.learning, trace.learned] if time is not None]
    assert len(noted) == 8
    assert noted == sorted(noted)
    assert (leg.status, leg.error, leg.answers, wait.error) == (200, "", True, "")
    assert leg.placement is wait.placement
    parent = parent_of(exchange.raw_headers)
    assert parent == Parent("a" * 32, leg.span_id, 1)
    world.assert_at_rest()


async def test_an_attempt_that_failed_says_why_and_so_does_the_next(trace: Trace) -> None:
    world = World(stream("a"))
    first = world.router.replicas[0].id
    world.upstream.unreachable = frozenset(r.id for r in world.router.replicas if r.id != first)
    await traced(world).proxy.handle(world.exchange(BODY))
    errors = [leg.error for leg in trace.legs]
    assert errors[-1] == ""
    assert set(errors[:-1]) <= {"upstream_unreachable"}
    assert [wait.after for wait in trace.waits] == ["", *errors[:-1]]
    assert len({leg.span_id for leg in trace.legs}) == len(trace.legs)


async def test_a_body_that_cannot_be_read_has_a_time_too(trace: Trace) -> None:
    world = traced(World(stream("a")))
    with pytest.raises(ProxyError, match="JSON"):
        await world.proxy.handle(world.exchange(b"{"))
    assert trace.identified is not None
    assert trace.waits == []


@pytest.mark.parametrize("step", range(1, 8))
async def test_wherever_a_client_leaves_nothing_stays_held(step: int, trace: Trace) -> None:
    world = traced(World(stream("a", "b"), cancel_at=step))
    task = asyncio.create_task(world.proxy.handle(world.exchange(BODY)))
    await asyncio.gather(task, return_exceptions=True)
    world.assert_at_rest()
    if task.cancelled():
        noted = [*trace.waits, *trace.legs]
        assert not noted or noted[-1].error == "client_gone"
        assert all(each.ended is not None for each in noted)


async def test_a_request_that_is_not_sampled_leaves_no_trace() -> None:
    world = traced(World(stream("a")))
    exchange = world.exchange(BODY)
    await world.proxy.handle(exchange)
    assert exchange.raw_headers == ()
    assert exchange.ended


async def test_what_is_noted_of_one_request_is_bounded(trace: Trace) -> None:
    world = World(stream("a"))
    upstream = TracedUpstream(world.upstream, world.clock)
    record_placement = world.router.place_anywhere(0.0, frozenset(), "")
    for _ in range(LEGS_MAX + 3):
        upstream.open(record_placement, world.exchange(BODY), BODY)
    assert (len(trace.legs), trace.untold) == (LEGS_MAX, 3)
