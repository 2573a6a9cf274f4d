"""The users of a run, or one worker's share of them: who plays what, and from when on."""

import asyncio
import time
from dataclasses import replace
from functools import partial

from loadgen.arrivals import Arrivals, begin_each
from loadgen.bound import InfiniteCache
from loadgen.client import Client, ClientSettings
from loadgen.dialects import DIALECTS
from loadgen.ledger import Witness
from loadgen.limits import Admission
from loadgen.plan import ContentSettings, Plans
from loadgen.ramp.budget import Budget
from loadgen.ramp.joins import Taken, joins_of
from loadgen.ramp.live import SeatGate, Seats
from loadgen.resume import Past
from loadgen.run_values import RunSettings
from loadgen.schedule import WHOLE, Share, TraceQueue
from loadgen.session import Asking, Gate, Session, Stage
from loadgen.text import WordPool
from loadgen.traces.model import Trace
from loadgen.wire import Wire


def stage_of(
    settings: RunSettings,
    traces: list[Trace],
    wire: Wire,
    asking: tuple[Asking, ContentSettings],
    *,
    started: float,
    witness: Witness,
    gate: Gate,
    past: Past,
    admission: Admission | None = None,
) -> Stage:
    """What all sessions share; samples count from the monotonic time `started`."""
    scale, path = settings.timing.time_scale, DIALECTS[settings.dialect].path
    client = ClientSettings(scale, settings.timeout_s, path=path)
    return Stage(
        client=Client(wire, client, started),
        gate=gate,
        asking=asking[0],
        timing=settings.timing,
        pool=WordPool(settings.seed),
        plans=Plans(asking[1], traces),
        cache=InfiniteCache(settings.engine_block_size),
        sent=witness.sent,
        ended=witness.ended,
        past=past,
        faults=settings.faults,
        admission=admission,
    )


class Players:
    """A ramp says through `offer` how many users there are to be, and its `budget` whether one
    may begin; otherwise the settings do."""

    def __init__(
        self,
        settings: RunSettings,
        traces: list[Trace],
        stage: Stage,
        share: Share = WHOLE,
        budget: Budget | None = None,
    ) -> None:
        self._settings = settings
        self._traces = traces
        self._stage = stage
        self._share = share
        recorded = settings.arrivals is not None and settings.arrivals.kind == "recorded"
        self._queue = TraceQueue(
            traces, settings.seed, settings.recycles, as_recorded=recorded, share=share
        )
        self._queue.resume(stage.past.plays(traces))
        exempt = settings.ramp.users_first if settings.ramp is not None else 0
        self._joins = joins_of(self._queue, budget, exempt, settings.timing.time_scale)
        self._sessions: list[tuple[Trace, Session]] = []
        self._seats = Seats()
        self._joined = 0
        self._lost = 0
        self._group: asyncio.TaskGroup | None = None

    async def prepare(self) -> None:
        """Whatever takes long and can be known ahead is done before any clock runs."""
        for trace in self._queue.traces:
            self._stage.plans.of(trace)
        ramped, arrivals = self._settings.ramp is not None, self._settings.arrivals
        fresh = not self._stage.past.samples
        users = 0 if ramped or arrivals is not None else self._settings.users
        for _ in self._share.of(range(users)):
            session = await self._next_session(self._stage, advance=fresh)
            if session is not None:
                self._sessions.append(session)

    async def play(self, at: float) -> None:
        """From the monotonic time `at` until the last has ended."""
        if self._settings.arrivals is not None:
            await self._arriving_users(self._settings.arrivals, at)
        elif self._settings.ramp is not None:
            await self._seated_users()
        else:
            await self._users(at)

    def offer(self, users: int) -> None:
        """How many users of the whole run may ask from now on; those new to it begin."""
        self._seats.offer(users + self._lost)
        if self._group is not None:
            self._join()

    def _join(self) -> None:
        assert self._group is not None
        while self._joined < self._seats.users:
            if self._share.has(self._joined):
                gate = SeatGate(self._stage.gate, self._seats, self._joined)
                stage = replace(self._stage, gate=gate)
                self._group.create_task(self._seated(stage, self._joined))
            self._joined += 1

    async def _seated(self, stage: Stage, number: int) -> None:
        """Until the run is over, or there is no conversation that this user may begin."""
        taken = await self._joins.first(number, stage.gate)
        if taken is not None:
            await self._user(*await self._session(stage, taken), time.monotonic())
        self._lost += 1

    async def _seated_users(self) -> None:
        async with asyncio.TaskGroup() as self._group:
            self._join()
            await self._stage.gate.wait_closed()

    async def _users(self, at: float) -> None:
        users, seed = self._settings.users, self._settings.seed
        starts = self._share.of(self._settings.timing.starts_s(users, seed))
        async with asyncio.TaskGroup() as group:
            # Fewer than there are users when the traces are fewer.
            for start_s, (trace, session) in zip(starts, self._sessions, strict=False):
                group.create_task(self._user(trace, session, at + start_s))

    async def _arriving_users(self, arrivals: Arrivals, at: float) -> None:
        scale, seed = self._settings.timing.time_scale, self._settings.seed
        starts = (start / scale for start in arrivals.starts_s(self._traces, seed))
        own = (start for number, start in enumerate(starts) if self._share.has(number))
        following = partial(self._next_session, self._stage)
        gate = self._stage.gate
        if not await begin_each(own, following, gate, self._one, began=at):
            gate.close("too many conversations at a time")

    async def _one(self, trace: Trace, session: Session, at: float) -> None:
        try:
            await session.run(at)
        finally:
            self._queue.give_back(trace)

    async def _user(self, trace: Trace, session: Session, at: float) -> None:
        """One user: a conversation at a time, a new one as soon as the last has ended."""
        while True:
            await self._one(trace, session, at)
            if self._stage.gate.closed:
                return
            following = await self._next_session(session.stage)
            if following is None:
                return
            trace, session = following
            at = time.monotonic()

    async def _next_session(
        self, stage: Stage, *, advance: bool = False
    ) -> tuple[Trace, Session] | None:
        taken = self._joins.following()
        return await self._session(stage, taken, advance=advance) if taken is not None else None

    async def _session(
        self, stage: Stage, taken: Taken, *, advance: bool = False
    ) -> tuple[Trace, Session]:
        first = self._settings.timing.first_turn(taken[0], self._settings.seed) if advance else 0
        session = Session(stage, *taken, first)
        await session.prepare()
        return taken[0], session
