"""Work held back in the order that wastes least.

Replicas are kept just busy: each gets prefill until it owes `backlog_s` seconds; the rest waits
here, where it can still be ordered. Among those who wait for a replica the least predicted miss
goes first, because it frees the engine soonest and its prefix is the likeliest to be evicted
meanwhile. Waiting makes a miss count less, and past `wait_max_s` it does not count at all, so
nobody starves. New conversations are the dearest misses and so wait longest by themselves.
"""

from dataclasses import dataclass, replace
from math import inf

from kvproxy.core.allowance import Allowance, AllowanceLimits
from kvproxy.core.errors import ProxyError
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement, Placing, Router
from kvproxy.core.score import Match, Score
from kvproxy.core.types import Chain, Identity


@dataclass(slots=True, eq=False)
class Ticket:
    """A turn that asks to be placed. The fields below `exclude` are set while it waits: where it
    wants to go, and what it expects there."""

    identity: Identity
    chain: Chain
    entered_at: float
    exclude: frozenset[str] = frozenset()
    replica: Replica | None = None
    match: Match = Match.NONE
    prompt_tokens: int = 0
    score: Score = Score.FREE


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Seconds and counts. Waiting `ageing_s` halves what a miss counts in the order; after
    `wait_max_s` only age counts."""

    allowance: AllowanceLimits
    backlog_s: float = 1.0
    ageing_s: float = 600.0
    wait_max_s: float = 900.0
    queue_max: int = 10_000


class Admission:
    """Waiting tickets by the replica they wait for. Only enter, leave and poll change it."""

    def __init__(self, router: Router, limits: AdmissionLimits) -> None:
        self._router = router
        self._limits = limits
        self._waiting: dict[str, list[Ticket]] = {}
        self._allowances: dict[str, Allowance] = {}
        self.length = 0

    def enter(self, ticket: Ticket, now: float) -> None:
        """Join the queue; raises ProxyError overloaded when it is full, or what look_up raises."""
        if self.length >= self._limits.queue_max:
            raise ProxyError(
                "overloaded",
                f"{self.length} requests are waiting already (admission.queue_max).",
                retry_after_s=self._limits.backlog_s,
            )
        self._aim(ticket, now)
        self.length += 1

    def leave(self, ticket: Ticket) -> None:
        """A waiting request gave up."""
        assert ticket.replica is not None
        self._waiting[ticket.replica.id].remove(ticket)
        self.length -= 1

    def poll(self, now: float) -> list[tuple[Ticket, Placement | ProxyError]]:
        """Place every ticket whose turn it is. Call when anything changed.

        An error is the outcome of a ticket whose replica went away and that fits no other.
        """
        if not self.length:
            return []
        placed = self._leave_lost(now)
        for replica in self._router.ready():
            waiting = self._waiting.get(replica.id)
            while waiting and replica.load.queue_s(now) < self._limits.backlog_s:
                ticket = self._first(waiting, replica, now)
                if not self._permits(ticket, replica, now):
                    break
                waiting.remove(ticket)
                self.length -= 1
                placed.append((ticket, self._router.reserve(_placing(ticket), now)))
        return placed

    def _permits(self, ticket: Ticket, replica: Replica, now: float) -> bool:
        """Draw the ticket's prefill from the replica's allowance; False leaves it waiting."""
        if self._limits.backlog_s == inf:
            return True
        limits = self._limits.allowance
        allowance = self._allowances.setdefault(replica.id, Allowance(limits, limits.burst_s, now))
        if not allowance.permits(ticket.score.prefill_s, replica.load.in_flight, now):
            return False
        allowance.spend(ticket.score.prefill_s, now)
        return True

    def _leave_lost(self, now: float) -> list[tuple[Ticket, Placement | ProxyError]]:
        """Tickets that wait for a replica which takes no new work look for another one."""
        ready = {replica.id for replica in self._router.ready()}
        outcomes: list[tuple[Ticket, Placement | ProxyError]] = []
        for lost in [name for name in self._waiting if name not in ready]:
            for ticket in self._waiting.pop(lost):
                try:
                    self._aim(ticket, now)
                except ProxyError as error:
                    self.length -= 1
                    outcomes.append((ticket, error))
        return outcomes

    def _aim(self, ticket: Ticket, now: float) -> None:
        """Choose where to wait, counting those who would go first there."""
        router = self._router
        lookup = router.look_up(ticket.identity, ticket.chain, now, ticket.exclude)
        ahead = [
            self._ahead_s(replica, match, lookup.prompt_tokens)
            for replica, match in zip(lookup.candidates, lookup.matches, strict=True)
        ]
        scores = router.score(lookup, now, ahead)
        index = router.choose(ticket.identity, ticket.chain, lookup, scores)
        ticket.replica = lookup.candidates[index]
        ticket.match = lookup.matches[index]
        ticket.prompt_tokens = lookup.prompt_tokens
        ticket.score = scores[index]
        self._waiting.setdefault(ticket.replica.id, []).append(ticket)

    def _ahead_s(self, replica: Replica, match: Match, prompt_tokens: int) -> float:
        """Seconds of the tickets for `replica` that miss less than this one would."""
        waiting = self._waiting.get(replica.id)
        if not waiting:
            return 0.0
        own_s = replica.rate.prefill_s(prompt_tokens - match.tokens, prompt_tokens)
        return sum(t.score.prefill_s for t in waiting if t.score.prefill_s <= own_s)

    def _first(self, waiting: list[Ticket], replica: Replica, now: float) -> Ticket:
        """The ticket to place next, its match looked up anew until it stays first.

        While tickets wait their prefixes can only be evicted, so the others' figures are at best
        what they were.
        """
        while True:
            first = min(waiting, key=lambda ticket: self._rank(ticket, now))
            if first.entered_at == now:
                return first
            before = first.score.prefill_s
            first.match, first.prompt_tokens = self._router.match(
                replica, first.identity, first.chain
            )
            miss = max(1, first.prompt_tokens - first.match.tokens)
            first.score = replace(
                first.score, prefill_s=replica.rate.prefill_s(miss, first.prompt_tokens)
            )
            if first.score.prefill_s <= before * 1.01 + 1e-3:
                return first

    def _rank(self, ticket: Ticket, now: float) -> float:
        waited = now - ticket.entered_at
        if waited >= self._limits.wait_max_s:
            return -waited
        return ticket.score.prefill_s / (1 + waited / self._limits.ageing_s)


def _placing(ticket: Ticket) -> Placing:
    assert ticket.replica is not None
    return Placing(
        ticket.identity,
        ticket.chain,
        ticket.replica,
        ticket.match,
        ticket.prompt_tokens,
        ticket.score,
    )
