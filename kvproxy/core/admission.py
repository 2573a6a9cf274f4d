"""Work held back in the order that wastes least.

Replicas are kept just busy: each gets prefill until it owes `backlog_s` seconds; the rest waits
here, where it can still be ordered. Among those who wait for a replica the least predicted miss
goes first, because it frees the engine soonest and its prefix is the likeliest to be evicted
meanwhile; higher priorities and tenants that are behind their share go before that order. Waiting
makes a miss count less, and past `wait_max_s` a ticket goes next whatever else holds, so nobody
starves. New conversations are the dearest misses and so wait longest by themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from kvproxy.core.allowance import Allowance, AllowanceLimits
from kvproxy.core.disagg.choice import Choice
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.core.line import Answering, Line, Ticket
from kvproxy.core.placement import Decided, Placement, Placing
from kvproxy.core.replica import Replica
from kvproxy.core.router import Router
from kvproxy.core.score import Score, pushed_out_s
from kvproxy.core.shares import Shares

__all__ = ["Admission", "AdmissionLimits", "Ticket"]

_NOBODY: Mapping[str, Line] = {}
# Where nothing is held back a backlog has no bound, and who waits for a replica to prove itself
# need not wait for long.
_RETRY_AFTER_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Seconds and counts. Waiting `ageing_s` halves what a miss counts in the order; after
    `wait_max_s` only age counts. `ttft_slo_s`: who cannot expect a first token by then is refused
    at once."""

    allowance: AllowanceLimits
    backlog_s: float = 1.0
    ageing_s: float = 600.0
    wait_max_s: float = 900.0
    queue_max: int = 10_000
    ttft_slo_s: float = inf
    tenant_weights: Mapping[str, float] = field(default_factory=dict)


class Admission:
    """Waiting tickets by the replica they wait for. Only enter, leave and poll change it."""

    def __init__(self, router: Router, limits: AdmissionLimits) -> None:
        self._router = router
        self._limits = limits
        self._waiting: dict[str, Line] = {}
        self._allowances: dict[str, Allowance] = {}
        self._shares = Shares(limits.tenant_weights)
        self.length = 0

    def enter(self, ticket: Ticket, now: float) -> None:
        """Join the queue; raises ProxyError overloaded when it is full or the SLO out of reach,
        or what look_up raises."""
        limits = self._limits
        if self.length >= limits.queue_max:
            raise ProxyError(
                "overloaded",
                f"{self.length} requests are waiting already (admission.queue_max).",
                retry_after_s=min(limits.backlog_s, _RETRY_AFTER_MAX_S),
            )
        if ticket.replica is None:
            self._aim(ticket, now)
        self._refuse_late(ticket)
        self._join(ticket)
        self.length += 1

    def _refuse_late(self, ticket: Ticket) -> None:
        limits, expected_s = self._limits, ticket.ttft_s
        if expected_s > limits.ttft_slo_s:
            raise ProxyError(
                "overloaded",
                f"A first token is expected in {expected_s:.1f} s, later than "
                f"{limits.ttft_slo_s:.1f} s (admission.ttft_slo_s).",
                retry_after_s=max(1.0, expected_s - limits.ttft_slo_s),
            )

    def pass_by(self, ticket: Ticket, now: float) -> Placement | None:
        """What enter() and poll() come to for a ticket that nobody waits with and that need not
        wait; None where that is not so: then enter() is next. Raises as enter() does."""
        limits = self._limits
        if self.length or not limits.queue_max:
            return None
        decided = self._decide(ticket, now, _NOBODY)
        if not self._passes(ticket, decided, now):
            ticket.aim(decided)
            return None
        return self._place(ticket, decided, now)

    def _passes(self, ticket: Ticket, decided: Decided, now: float) -> bool:
        """Whether it may go at once. Raises as enter() does."""
        limits, replica, score = self._limits, decided.replica, decided.score
        if limits.ttft_slo_s != inf:
            ticket.aim(decided)
            self._refuse_late(ticket)
        if replica.life.health is not Health.READY or limits.wait_max_s <= 0:
            return False
        # What was scored just now; the score of what is computed elsewhere has no queue in it.
        queue_s = score.queue_s if ticket.answering is None else replica.load.queue_s(now)
        if queue_s >= limits.backlog_s * replica.share(now):
            return False
        if limits.backlog_s == inf or score.prefill_s <= limits.allowance.small_s:
            return True
        return self._allowance(replica, now).permits(score.prefill_s, replica.pinned, now)

    def leave(self, ticket: Ticket) -> None:
        """A waiting request gave up."""
        assert ticket.replica is not None
        self._waiting[ticket.replica.id].leave(ticket)
        self.length -= 1

    def limit(self, limits: AdmissionLimits) -> None:
        """Other limits from now on; who waits already is not refused by them."""
        self._limits = limits
        self._shares = Shares(limits.tenant_weights)
        self._allowances.clear()

    def forget(self, replica: Replica) -> None:
        """It is gone; poll() finds others for those who wait for it."""
        self._allowances.pop(replica.id, None)

    def poll(
        self, now: float, replica: Replica | None = None
    ) -> list[tuple[Ticket, Placement | ProxyError]]:
        """Place every ticket whose turn it is. Call when anything changed: with `replica` when that
        was only what one that is well has to do, so that nobody asks all others at every answer.

        An error is the outcome of a ticket whose replica went away and that fits no other.
        """
        if not self.length:
            return []
        if replica is not None:
            known = self._router.replica(replica.id) is replica
            return self._let_go(replica, now) if known else []
        placed = self._leave_lost(now)
        for each in self._router.replicas:
            placed += self._let_go(each, now)
        return placed

    def _let_go(self, replica: Replica, now: float) -> list[tuple[Ticket, Placement | ProxyError]]:
        """Those who wait for this replica and whose turn it is."""
        placed: list[tuple[Ticket, Placement | ProxyError]] = []
        waiting = self._waiting.get(replica.id)
        while waiting and replica.may_try:
            if not self._has_room(replica, waiting.oldest, now):
                break
            ticket = self._next(waiting, replica, now)
            if ticket is None:
                break
            waiting.leave(ticket)
            self.length -= 1
            placed.append((ticket, self._place(ticket, ticket.aimed, now)))
        return placed

    def _has_room(self, replica: Replica, oldest: Ticket, now: float) -> bool:
        """Whether the replica may be given more; who waited too long is not asked to wait on."""
        if now - oldest.entered_at >= self._limits.wait_max_s:
            return True
        return replica.load.queue_s(now) < self._limits.backlog_s * replica.share(now)

    def waiting(self, replica: Replica) -> int:
        return len(self._waiting.get(replica.id, ()))

    def oldest_s(self, now: float) -> float:
        """How long the longest waiting ticket has waited."""
        firsts = [line.oldest.entered_at for line in self._waiting.values() if line]
        return now - min(firsts, default=now)

    def _place(self, ticket: Ticket, decided: Decided, now: float) -> Placement:
        replica, match, tokens, score = decided
        self._shares.charge(ticket.identity.tenant, score.prefill_s)
        miss = max(1, tokens - match.tokens)
        excess = replica.hbm.size + miss - replica.hbm_tokens
        if excess > 0 and self._limits.backlog_s != inf:
            chance = self._router.returns.chance
            harm_s = pushed_out_s(replica, min(miss, excess), now, chance)
            if harm_s:
                self._allowance(replica, now).spend(harm_s, now)
        return self._router.reserve(_placing(ticket, decided, now), now)

    def _next(self, waiting: Line, replica: Replica, now: float) -> Ticket | None:
        """Whose turn it is on a replica that has room; None: nobody's until its allowance grows."""
        oldest = waiting.oldest
        if now - oldest.entered_at >= self._limits.wait_max_s:
            self._look_again(oldest, replica)
            return oldest
        first = self._first(self._among(waiting), replica, now)
        if self._limits.backlog_s == inf:
            return first
        allowance = self._allowance(replica, now)
        permitted = allowance.permits(first.score.prefill_s, replica.pinned, now)
        return first if permitted else None

    def _among(self, waiting: Line) -> list[Ticket]:
        """Those of the highest priority, and of them those of the tenant whose turn it is."""
        urgent = min([ticket.priority for ticket in waiting])
        among = [ticket for ticket in waiting if ticket.priority == urgent]
        tenants = {ticket.identity.tenant for ticket in among}
        if len(tenants) == 1:
            return among
        turn = self._shares.first(tenants)
        return [ticket for ticket in among if ticket.identity.tenant == turn]

    def _allowance(self, replica: Replica, now: float) -> Allowance:
        found = self._allowances.get(replica.id)
        if found is None:
            limits = self._limits.allowance
            found = self._allowances[replica.id] = Allowance(limits, limits.burst_s, now)
        return found

    def _leave_lost(self, now: float) -> list[tuple[Ticket, Placement | ProxyError]]:
        """Tickets that wait for a replica which is not well look for another one; the same may
        still be the best there is."""
        ready = {replica.id for replica in self._router.ready()}
        outcomes: list[tuple[Ticket, Placement | ProxyError]] = []
        for lost in [name for name in self._waiting if name not in ready]:
            for ticket in self._waiting.pop(lost):
                try:
                    self._aim(ticket, now)
                    self._join(ticket)
                except ProxyError as error:
                    self.length -= 1
                    outcomes.append((ticket, error))
        return outcomes

    def _aim(self, ticket: Ticket, now: float) -> None:
        """Choose where to wait, counting those who would go first there."""
        ticket.aim(self._decide(ticket, now, self._waiting if self.length else _NOBODY))

    def _decide(self, ticket: Ticket, now: float, lines: Mapping[str, Line]) -> Decided:
        """Sets where the ticket is answered, if that is not where its work is."""
        ticket.answering = None
        decided = self._router.at_home(ticket.identity, ticket.chain, now, ticket.exclude, lines)
        return decided or self._among_all(ticket, now, lines)

    def _among_all(self, ticket: Ticket, now: float, lines: Mapping[str, Line]) -> Decided:
        """Where its work is: the turn may be answered elsewhere than where it is computed."""
        router, identity, chain = self._router, ticket.identity, ticket.chain
        lookup = router.look_up(identity, chain, now, ticket.exclude)
        candidates, matches, tokens = lookup.candidates, lookup.matches, lookup.prompt.tokens
        asked = router.asked(lookup, now, lines)
        index, cost = router.choose(identity, chain, lookup, asked)
        found = router.elsewhere(identity, lookup, asked, Choice(index, cost, None))
        if found is None:
            return Decided(candidates[index], matches[index], tokens, cost)
        remote, at = found.remote, found.candidate
        assert remote is not None
        ticket.answering = Answering(candidates[at], matches[at], found.score, remote)
        if remote.pulls:
            return Decided(candidates[at], matches[at], tokens, found.score)
        prefill = Score.FREE._replace(prefill_s=remote.prefill_s)
        return Decided(remote.replica, remote.match, tokens, prefill)

    def _join(self, ticket: Ticket) -> None:
        assert ticket.replica is not None
        self._waiting.setdefault(ticket.replica.id, Line()).join(ticket)

    def _first(self, waiting: list[Ticket], replica: Replica, now: float) -> Ticket:
        """The ticket to place next, its match looked up anew until it stays first.

        While tickets wait their prefixes can only be evicted, so the others' figures are at best
        what they were.
        """
        while True:
            first = min(waiting, key=lambda ticket: self._rank(ticket, now))
            if first.evicted_before == replica.hbm.evicted:
                return first
            before = first.score.prefill_s
            self._look_again(first, replica)
            if first.score.prefill_s <= before * 1.01 + 1e-3:
                return first

    def _look_again(self, ticket: Ticket, replica: Replica) -> None:
        ticket.evicted_before = replica.hbm.evicted
        if ticket.answering is not None and ticket.answering.remote.pulls:
            return
        ticket.match, ticket.prompt_tokens = self._router.match(
            replica, ticket.identity, ticket.chain
        )
        miss = max(1, ticket.prompt_tokens - ticket.match.tokens)
        prefill_s = replica.rate.prefill_s(miss, ticket.prompt_tokens)
        self._waiting[replica.id].expect(ticket, prefill_s)

    def _rank(self, ticket: Ticket, now: float) -> float:
        waited = now - ticket.entered_at
        return ticket.score.prefill_s / (1 + waited / self._limits.ageing_s)


def _placing(ticket: Ticket, decided: Decided, now: float) -> Placing:
    (replica, match, tokens, score), remote = decided, None
    if ticket.answering is not None:
        replica, match, score, remote = ticket.answering
        if not remote.pulls:
            remote = remote._replace(match=decided.match, prefill_s=decided.score.prefill_s)
    waited_s, named = now - ticket.entered_at, ticket.request_id
    return Placing(
        ticket.identity, ticket.chain, replica, match, tokens, score, named, waited_s, remote
    )
