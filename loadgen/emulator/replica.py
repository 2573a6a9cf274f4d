"""One emulated replica: an engine model tied to the event loop's clock.

A timer fires when the engine next has something to tell; what it tells is handed to the streams
that wait for it. Nothing polls, and an idle replica costs nothing.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loadgen.emulator.block_events import BlockEvents, Prompt
from loadgen.emulator.metrics import ReplicaMetrics
from loadgen.emulator.settings import EmulatorSettings
from loadgen.engine.dram_tier import DramTier
from loadgen.engine_model import Emission, Engine, Finished, FinishReason, Gauges, Request


@dataclass(slots=True)
class Faults:
    """`dead` after a crash of the engine; the next `fail_next` requests get `fail_status`."""

    dead: bool = False
    fail_next: int = 0
    fail_status: int = 500


class EngineDeadError(Exception):
    """The engine crashed while the request was in it."""


@dataclass(frozen=True, slots=True)
class Work:
    """One generation; `prompt` is what events tell about it. `remote_tokens` are loaded from a
    peer; what is computed stays for one if it `keeps`."""

    chain: bytes
    prompt_tokens: int
    output_tokens: int
    finish_reason: FinishReason
    prompt: Prompt | None = None
    remote_tokens: int = 0
    keeps: bool = False


class Inflight:
    """Emissions of the generations of one request on their way to its handler."""

    __slots__ = ("_dead", "_pending", "_waiter", "ids", "unfinished")

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.unfinished = set(ids)
        self._pending: list[tuple[int, Emission]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._dead = False

    @property
    def finished(self) -> bool:
        return not self.unfinished

    def put(self, emission: Emission) -> None:
        self._pending.append((self.ids.index(emission.id), emission))
        if isinstance(emission, Finished):
            self.unfinished.discard(emission.id)
        self._wake()

    def kill(self) -> None:
        self._dead = True
        self._wake()

    async def take(self) -> list[tuple[int, Emission]]:
        """(number of the generation, emission): all that has come since the last call, at least
        one; EngineDeadError after a crash."""
        if not self._pending and not self._dead:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._dead:
            raise EngineDeadError
        pending, self._pending = self._pending, []
        return pending

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Replica:
    """Owns the engine; every change goes through here so that the timer is always right."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self.settings = settings
        self.metrics = ReplicaMetrics(time.time())
        self.faults = Faults()
        self._engine = Engine(settings.rates(), settings.limits())
        self._events: BlockEvents | None = None
        self._publish: Callable[[list[Any]], None] | None = None
        self._inflight: dict[str, Inflight] = {}
        self._loop = asyncio.get_running_loop()
        self._epoch = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._told_s = -math.inf  # virtual time of the last tick
        self._serial = 0

    def announce(self, events: BlockEvents, publish: Callable[[list[Any]], None]) -> None:
        """Publish from now on what the caches hold."""
        self._events, self._publish = events, publish
        self._engine.tell(events)

    def submit(self, works: Sequence[Work]) -> Inflight:
        """Queue generations; the caller must `release` what it gets."""
        if self.faults.dead:
            raise EngineDeadError
        now = self._now()
        inflight = Inflight([self._queue(work, now) for work in works])
        for request_id in inflight.ids:
            self._inflight[request_id] = inflight
        self._arm()
        return inflight

    def _queue(self, work: Work, now: float) -> str:
        self._serial += 1
        request = Request(
            id=str(self._serial),
            chain=work.chain,
            prompt_tokens=work.prompt_tokens,
            output_tokens=work.output_tokens,
            finish_reason=work.finish_reason,
            remote_tokens=work.remote_tokens,
            keeps=work.keeps,
        )
        if self._events is not None and work.prompt is not None:
            self._events.opened(request.id, work.prompt)
        self._engine.submit(request, now)
        self.metrics.submitted(request, now)
        return request.id

    def release(self, inflight: Inflight) -> None:
        """The handler is done; aborts what the engine is still at."""
        for request_id in inflight.ids:
            self._inflight.pop(request_id, None)
            if request_id in inflight.unfinished and not self.faults.dead:
                self._engine.abort(request_id, self._now())
            if self._events is not None:
                self._events.closed(request_id)
        if not inflight.finished and not self.faults.dead:
            self._arm()

    def let_go(self, request_id: str) -> None:
        """Free what a finished generation keeps for a peer."""
        if not self.faults.dead and self._engine.let_go(request_id, self._now()):
            self._arm()

    def held_tokens(self, chain: bytes) -> int:
        """Leading tokens of a prompt that either tier holds."""
        return self._engine.match(chain)[0] * self.settings.block_size

    def gauges(self) -> Gauges:
        """The engine's state now."""
        self._tick()
        return self._engine.gauges()

    @property
    def inflight_count(self) -> int:
        """Requests of clients, however many answers each wants."""
        return len(set(self._inflight.values()))

    @property
    def dram(self) -> DramTier | None:
        return self._engine.dram

    def reset_prefix_cache(self, *, external: bool) -> bool:
        done = self._engine.reset_prefix_cache(self._now(), external=external)
        self._arm()
        return done

    def stall(self, seconds: float) -> None:
        """Freeze for virtual `seconds`, which may be infinite."""
        now = self._now()
        self._engine.stall(now, now + seconds)
        self._arm()

    def resume(self) -> None:
        self._engine.resume(self._now())
        self._arm()

    def crash(self) -> None:
        """The engine dies: every stream ends with an error, new requests are refused."""
        self.faults.dead = True
        if self._timer is not None:
            self._timer.cancel()
        for inflight in set(self._inflight.values()):
            inflight.kill()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _now(self) -> float:
        return (self._loop.time() - self._epoch) * self.settings.time_scale

    def _arm(self) -> None:
        """Set the timer to when the engine next has something to tell; publish what it did."""
        if self._events is not None and self._publish is not None:
            events = self._events.take()
            if events:
                self._publish(events)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        token_s = self._engine.next_token_time()
        if token_s is None or self.faults.dead:
            return
        due = token_s
        interval_s = self.settings.chunk_interval_s * self.settings.time_scale
        if interval_s:
            event_s = self._engine.next_event_time()
            due = max(token_s, self._told_s + interval_s)
            due = due if event_s is None else min(due, event_s)
        self._timer = self._loop.call_at(self._epoch + due / self.settings.time_scale, self._tick)

    def _tick(self) -> None:
        if self.faults.dead:
            return
        now = self._now()
        emissions = self._engine.advance(now)
        if emissions:
            self._told_s = now
        for emission in emissions:
            self.metrics.observe(emission)
            inflight = self._inflight.get(emission.id)
            if inflight is not None:
                inflight.put(emission)
        self._arm()
