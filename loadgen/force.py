"""Those who play a run: this process by itself, or workers that it leads."""

import asyncio
import time
from typing import Protocol

from loadgen.honesty import CpuMeter, Measured
from loadgen.players import Players
from loadgen.probe import Pulse
from loadgen.session import Gate


class Force(Protocol):
    """`grace_s` is what it needs, beside the time for requests in flight, to end in order."""

    grace_s: float

    async def prepare(self) -> None: ...

    async def play(self, at: float) -> None:
        """From the monotonic time `at` until the last request has ended."""

    def offer(self, users: int) -> None:
        """How many users a ramp wants."""

    def clock(self) -> float:
        """The monotonic time up to which all that happened is known."""

    def measured(self) -> list[Measured]:
        """One a process that sent requests, after it has."""


async def until_over(
    users: "asyncio.Task[None]", gate: Gate, *, lasts_s: float | None, grace_s: float
) -> None:
    """Wait for the users; close the gate after `lasts_s`, then give what is in flight
    `grace_s`."""
    over = asyncio.create_task(gate.wait_closed())
    try:
        await asyncio.wait([users, over], timeout=lasts_s, return_when=asyncio.FIRST_COMPLETED)
        gate.close("traces played" if users.done() else "duration over")
        await asyncio.wait([users], timeout=grace_s)
    finally:
        over.cancel()
        if not users.done():
            users.cancel()
            await asyncio.wait([users])
    if not users.cancelled() and (error := users.exception()) is not None:
        raise error


class Alone:
    """The players of this process, and its pulse beside them."""

    grace_s = 0.0

    def __init__(self, players: Players) -> None:
        self._players = players
        self._pulse = Pulse()
        self._cpu = CpuMeter()

    async def prepare(self) -> None:
        await self._players.prepare()

    async def play(self, at: float) -> None:
        self._cpu = CpuMeter()
        pulse = asyncio.create_task(self._pulse.beat())
        try:
            await self._players.play(at)
        finally:
            pulse.cancel()

    def offer(self, users: int) -> None:
        self._players.offer(users)

    def clock(self) -> float:
        return time.monotonic()

    def measured(self) -> list[Measured]:
        return [Measured(self._pulse.lags_s, **self._cpu.read())]
