"""Placement in this very process: the router, its queue, and what conversations did before."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kvproxy.core.breaks import Cause
from kvproxy.core.diagnosis import Diagnosis, verdict
from kvproxy.core.headers import priority_of
from kvproxy.core.life_cycle import Evidence
from kvproxy.core.line import Ticket
from kvproxy.core.replica import Replica
from kvproxy.core.retry_budget import RetryBudget
from kvproxy.core.router import Placement, Router
from kvproxy.proxy import Record


class Gate(Protocol):
    async def admit(self, ticket: Ticket) -> Placement:
        """Raises ProxyError overloaded, no_replica or model_not_found."""

    def changed(self) -> None:
        """Somebody's first token, end or abort may let others go."""


@dataclass(frozen=True, slots=True)
class LocalPlacer:
    """`doubt`: a request failed on that replica."""

    router: Router
    gate: Gate
    diagnosis: Diagnosis
    clock: Callable[[], float]
    doubt: Callable[[Replica], None]
    retries: RetryBudget = field(default_factory=RetryBudget)

    async def place(self, record: Record, tried: frozenset[str]) -> Placement:
        turn, identity = record.turn, record.identity
        if not tried:
            self.retries.earn()
        if turn is None or identity is None:
            return self.router.place_anywhere(self.clock(), tried, record.passing_model)
        if not tried:
            record.step = self.diagnosis.follow(identity, turn.chain)
            if record.step is not None and record.step.cause is Cause.COMPACTION:
                # Most of its blocks are of no more use: it may as well go where there is room.
                self.router.affinity.forget(identity.key)
        ticket = Ticket(identity, turn.chain, self.clock(), tried, priority_asked(record))
        ticket.request_id = record.exchange.request_id
        return await self.gate.admit(ticket)

    def first_token(self, placement: Placement) -> None:
        self.router.first_token(placement, self.clock())
        self.gate.changed()

    def finish(self, record: Record, placement: Placement) -> None:
        turn, identity, replica = record.turn, record.identity, placement.replica.id
        if turn is not None and identity is not None:
            record.stake = self.diagnosis.stake(identity, turn.chain, record.step)
            record.verdict = verdict(record.stake, turn, replica, record.usage)
            self.diagnosis.went(identity, record.step, replica)
        record.learned = self.router.finish(placement, record.usage, self.clock())
        self.gate.changed()

    def abort(self, placement: Placement) -> None:
        self.router.abort(placement, self.clock())
        self.gate.changed()

    def seen(self, placement: Placement, evidence: Evidence) -> None:
        changed = placement.replica.see(evidence, self.clock())
        if evidence is Evidence.FAILED:
            self.doubt(placement.replica)
        if changed:
            self.gate.changed()

    async def may_retry(self, model: str, tried: frozenset[str]) -> bool:
        return bool(self.router.usable(model, tried)) and self.retries.spend()


def priority_asked(record: Record) -> int:
    """Of a request: its key's, else what it says itself."""
    key = record.caller.key
    asked = key.priority if key is not None else None
    return priority_of(record.exchange.header) if asked is None else asked
