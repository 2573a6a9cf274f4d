"""Waiting for admission: who waits is placed, told, or gone without a trace."""

import asyncio

import pytest

from kvproxy.adapters.gate import Gate
from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.core.line import Ticket
from kvproxy.core.router import Placement
from kvproxy.core.types import Identity
from tests.support.makers import make_chain, make_router

LIMITS = AdmissionLimits(AllowanceLimits(share=1.0, burst_s=1e9), backlog_s=0.001, queue_max=3)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.router = make_router(1)
        self.admission = Admission(self.router, LIMITS)
        self.gate = Gate(self.router, self.admission, lambda: self.now)

    def ticket(self, name: str) -> Ticket:
        return Ticket(Identity("", "m", name), make_chain(f"{name:640}"), self.now)

    async def placed(self, name: str) -> Placement:
        return await self.gate.admit(self.ticket(name))

    async def waiting(self, name: str) -> "asyncio.Task[Placement]":
        task = asyncio.create_task(self.placed(name))
        await asyncio.sleep(0)
        assert not task.done()
        return task

    def finish(self, placement: Placement) -> None:
        self.router.finish(placement, None, self.now)
        self.gate.changed()

    def at_rest(self) -> bool:
        loads = [(r.load.in_flight, r.load.waiting_s) for r in self.router.replicas]
        return loads == [(0, 0.0)] and self.admission.length == 0 and not self.gate._futures


async def test_an_idle_replica_admits_without_waiting() -> None:
    world = World()
    world.finish(await world.placed("a"))
    assert world.at_rest()


async def test_the_next_goes_when_another_ends() -> None:
    world = World()
    first = await world.placed("a")
    second = await world.waiting("b")
    assert world.admission.length == 1
    world.finish(first)
    world.finish(await second)
    assert world.at_rest()


async def test_the_clock_alone_lets_others_go() -> None:
    world = World()
    first = await world.placed("a")
    second = await world.waiting("b")
    world.now = 1000.0
    world.finish(await second)
    world.finish(first)
    assert world.at_rest()


async def test_who_is_cancelled_while_waiting_leaves_the_queue() -> None:
    world = World()
    first = await world.placed("a")
    second = await world.waiting("b")
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert world.admission.length == 0
    world.finish(first)
    assert world.at_rest()


async def test_placed_and_cancelled_at_once() -> None:
    world = World()
    for cancel_first in (False, True):
        first = await world.placed(f"a {cancel_first}")
        second = await world.waiting(f"b {cancel_first}")
        if cancel_first:
            second.cancel()
        world.finish(first)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert world.at_rest()


async def test_a_lost_replica_is_told_to_those_who_wait() -> None:
    world = World()
    first = await world.placed("a")
    second = await world.waiting("b")
    world.router.replicas[0].life.health = Health.PAUSED
    world.gate.changed()
    with pytest.raises(ProxyError) as raised:
        await second
    assert raised.value.code == "no_replica"
    world.finish(first)
    assert world.at_rest()


async def test_a_full_queue_refuses_at_once() -> None:
    world = World()
    first = await world.placed("a")
    tasks = [await world.waiting(name) for name in "bcd"]
    with pytest.raises(ProxyError) as raised:
        await world.placed("e")
    assert raised.value.code == "overloaded"
    world.finish(first)
    for task in tasks:
        world.finish(await task)
    assert world.at_rest()
