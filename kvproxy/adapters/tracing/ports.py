"""The proxy's ports, seen while they work: each does what the one behind it does, and notes when.

They stand in a proxy only where tracing is on. The trace that runs is a context variable, since a
request to a replica may be a task of its own.
"""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from kvproxy.core.dialects.base import Dialect
from kvproxy.core.dry_run import Reader
from kvproxy.core.echo import Tap
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Evidence
from kvproxy.core.pieces import Body
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement
from kvproxy.core.trace import LEGS_MAX, Leg, Trace, Wait
from kvproxy.core.trace_context import new_id, told, traceparent
from kvproxy.core.turn import Turn
from kvproxy.proxy import Answer, Exchange, Placer, Record, Upstream

Clock = Callable[[], float]
_Note = TypeVar("_Note", Wait, Leg)

# None while the request that runs is not sampled.
RUNNING: ContextVar[Trace | None] = ContextVar("kvproxy_trace", default=None)


@dataclass(frozen=True, slots=True)
class TracedReader:
    reader: Reader
    clock: Clock

    def read(
        self, dialect: Dialect, tenant: str, body: Body, session: str = "", *, anew: bool = False
    ) -> Turn:
        trace = RUNNING.get()
        if trace is None:
            return self.reader.read(dialect, tenant, body, session, anew=anew)
        if trace.accepted is None:
            trace.accepted = self.clock()
        try:
            return self.reader.read(dialect, tenant, body, session, anew=anew)
        finally:
            trace.identified = self.clock()

    def tap(self, turn: Turn) -> Tap | None:
        return self.reader.tap(turn)

    def answered(self, turn: Turn, tenant: str, answer: bytes) -> None:
        self.reader.answered(turn, tenant, answer)

    def responded(self, turn: Turn, tenant: str, response: str, answer_tokens: int) -> None:
        self.reader.responded(turn, tenant, response, answer_tokens)


@dataclass(frozen=True, slots=True)
class TracedPlacer:
    placer: Placer
    clock: Clock

    async def place(self, record: Record, tried: frozenset[str]) -> Placement:
        trace = RUNNING.get()
        if trace is None:
            return await self.placer.place(record, tried)
        wait = Wait(self.clock(), trace.legs[-1].error if trace.legs else "")
        _note(trace, trace.waits, wait)
        try:
            wait.placement = await self.placer.place(record, tried)
            return wait.placement
        except BaseException as error:
            wait.error = _code(error)
            raise
        finally:
            wait.ended = self.clock()

    def first_token(self, placement: Placement) -> None:
        self.placer.first_token(placement)

    def finish(self, record: Record, placement: Placement) -> None:
        trace = RUNNING.get()
        if trace is None:
            self.placer.finish(record, placement)
            return
        trace.learning = self.clock()
        self.placer.finish(record, placement)
        trace.learned = self.clock()

    def abort(self, placement: Placement) -> None:
        self.placer.abort(placement)

    def seen(self, placement: Placement, evidence: Evidence, wait_s: float = 0.0) -> None:
        self.placer.seen(placement, evidence, wait_s)

    async def may_retry(self, model: str, tried: frozenset[str]) -> bool:
        return await self.placer.may_retry(model, tried)


@dataclass(frozen=True, slots=True)
class TracedUpstream:
    """Stands before what sends bytes, so that each request to a replica is a leg of its own."""

    upstream: Upstream
    clock: Clock

    def open(
        self, placement: Placement, exchange: Exchange, body: Body
    ) -> AbstractAsyncContextManager[Answer]:
        trace = RUNNING.get()
        if trace is None:
            return self.upstream.open(placement, exchange, body)
        answers = bool(trace.waits) and placement is trace.waits[-1].placement
        leg = Leg(new_id(os.urandom, 8), placement, answers, self.clock())
        _note(trace, trace.legs, leg)
        parent = traceparent(trace.trace_id, leg.span_id, trace.flags)
        headers = exchange.raw_headers
        exchange.raw_headers = told(headers, parent, keeps_state=bool(trace.state))
        return _Opened(self.upstream.open(placement, exchange, body), leg, self.clock)

    def abandon(self, replica: Replica) -> None:
        self.upstream.abandon(replica)


class _Opened(AbstractAsyncContextManager[Answer]):
    """A leg under way."""

    __slots__ = ("_clock", "_leg", "_opened")

    def __init__(self, opened: AbstractAsyncContextManager[Answer], leg: Leg, clock: Clock) -> None:
        self._opened = opened
        self._leg = leg
        self._clock = clock

    async def __aenter__(self) -> Answer:
        try:
            answer = await self._opened.__aenter__()
        except BaseException as error:
            self._end(error)
            raise
        self._leg.status = answer.status
        return answer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool | None:
        self._end(error)
        return await self._opened.__aexit__(kind, error, at)

    def _end(self, error: BaseException | None) -> None:
        self._leg.ended = self._clock()
        self._leg.error = "" if error is None else _code(error)


def _note(trace: Trace, notes: list[_Note], note: _Note) -> None:
    if len(notes) < LEGS_MAX:
        notes.append(note)
    else:
        trace.untold += 1


def _code(error: BaseException) -> str:
    if isinstance(error, ProxyError):
        return error.code
    return "internal" if isinstance(error, Exception) else "client_gone"
