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
from kvproxy.core.response_homes import Kept, followed
from kvproxy.core.retry_budget import RetryBudget
from kvproxy.core.router import Placement, Router
from kvproxy.core.types import Chain, Identity
from kvproxy.proxy import Record


class Gate(Protocol):
    async def admit(self, ticket: Ticket) -> Placement:
        """Raises ProxyError overloaded, no_replica or model_not_found."""

    def changed(self, replica: Replica | None = None) -> None:
        """Somebody's first token, end or abort may let others go: those who wait for `replica`, if
        it is named."""


class Peers(Protocol):
    """The other proxies of a fleet."""

    async def recall(self, identity: Identity, chain: Chain) -> None:
        """The router learns what others know of the conversation; in bounded time, whatever
        happens to them."""

    def placed(self, placement: Placement) -> None:
        """Others will learn of it."""


@dataclass(frozen=True, slots=True)
class LocalPlacer:
    """`doubt`: a request failed on that replica."""

    router: Router
    gate: Gate
    diagnosis: Diagnosis
    clock: Callable[[], float]
    doubt: Callable[[Replica], None]
    retries: RetryBudget = field(default_factory=RetryBudget)
    peers: Peers | None = None

    async def place(
        self, record: Record, tried: frozenset[str], barred: frozenset[str] = frozenset()
    ) -> Placement:
        """`barred` must not be used, whoever else there is."""
        first = not tried
        if first:
            self.retries.earn()
            if record.previous:
                self._follow(record)
        if record.pinned:
            tried |= self._others(record.pinned)
        out = tried | barred if barred else tried
        turn, identity = record.turn, record.identity
        if turn is None or identity is None:
            return self.router.place_anywhere(self.clock(), out, record.passing_model)
        chain = turn.chain
        if first:
            step = record.step = self.diagnosis.follow(identity, chain)
            stake = record.stake = self.diagnosis.stake(identity, chain, step)
            if stake is not None and stake.cause == Cause.COMPACTION:
                # Most of its blocks are of no more use: it may as well go where there is room.
                self.router.affinity.forget(self.router.key_of(identity))
            if self.peers is not None:
                await self.peers.recall(identity, chain)
        ticket = Ticket(identity, chain, self.clock(), out, priority_asked(record))
        ticket.request_id = record.exchange.request_id
        placement = await self.gate.admit(ticket)
        if self.peers is not None:
            self.peers.placed(placement)
        return placement

    def _follow(self, record: Record) -> None:
        """Where a conversation that goes on by the id of a response has to go."""
        kept = self.router.responses.find(record.previous, record.tenant)
        record.pin = "unknown" if kept is None else "gone"
        if kept is not None and self.router.usable("", self._others(kept.replica)):
            record.pin, record.pinned = "held", kept.replica
        if record.identity is not None:
            record.identity = followed(record.identity, kept)

    def _others(self, replica: str) -> frozenset[str]:
        return frozenset(each.id for each in self.router.replicas if each.id != replica)

    def first_token(self, placement: Placement) -> None:
        self.router.first_token(placement, self.clock())
        self.gate.changed(placement.replica)

    def finish(self, record: Record, placement: Placement) -> None:
        turn, identity, replica = record.turn, record.identity, placement.replica.id
        if turn is not None and identity is not None:
            record.verdict = verdict(record.stake, turn, replica, record.usage)
            self.diagnosis.went(identity, record.step, replica)
            if record.response:
                kept = Kept(record.tenant, replica, identity.session or record.response)
                self.router.responses.keep(record.response, kept)
        streamed = turn is not None and turn.stream and record.status == 200
        usage, now = record.usage, self.clock()
        record.learned = self.router.finish(placement, usage, now, streamed=streamed)
        self.gate.changed(placement.replica)

    def abort(self, placement: Placement) -> None:
        self.router.abort(placement, self.clock())
        self.gate.changed()

    def seen(self, placement: Placement, evidence: Evidence, wait_s: float = 0.0) -> None:
        now = self.clock()
        changed = placement.replica.see(evidence, now)
        if wait_s:
            placement.replica.load.decline(now + wait_s)
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
