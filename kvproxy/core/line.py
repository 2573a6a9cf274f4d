"""Who waits for one replica, oldest first."""

from bisect import bisect_right, insort
from collections.abc import Iterator
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from kvproxy.core.disagg.choice import Remote
from kvproxy.core.placement import Decided
from kvproxy.core.replica import Replica
from kvproxy.core.score import Match, Score
from kvproxy.core.types import Chain, Identity


class Answering(NamedTuple):
    """Where a turn is answered whose KV comes from another replica: `remote` computes it, while
    the turn waits in its line, or is only read."""

    replica: Replica
    match: Match
    score: Score
    remote: Remote


class Ticket(Struct, eq=False):
    """A turn that asks to be placed. Lower `priority` goes first, as in vLLM. The fields below it
    are set while it waits: where it wants to be computed, and what it expects there; `answering`
    if that is not where it will be answered."""

    identity: Identity
    chain: Chain
    entered_at: float
    exclude: frozenset[str] = frozenset()
    priority: int = 0
    replica: Replica | None = None
    match: Match = Match.NONE
    prompt_tokens: int = 0
    score: Score = Score.FREE
    evicted_before: int = 0
    request_id: str = ""
    answering: Answering | None = None

    def aim(self, decided: Decided) -> None:
        """It waits to be computed there."""
        self.replica, self.match, self.prompt_tokens, self.score = decided
        self.evicted_before = decided.replica.hbm.evicted

    @property
    def aimed(self) -> Decided:
        assert self.replica is not None
        return Decided(self.replica, self.match, self.prompt_tokens, self.score)

    @property
    def ttft_s(self) -> float:
        score = self.score if self.answering is None else self.answering.score
        return score.ttft_s


class Line:
    """Tickets by age. What they take is summed once, not for every turn that asks."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self._taken_s: list[float] | None = None
        self._sums_s: list[float] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._tickets)

    @property
    def oldest(self) -> Ticket:
        return self._tickets[0]

    def join(self, ticket: Ticket) -> None:
        insort(self._tickets, ticket, key=attrgetter("entered_at"))
        self._taken_s = None

    def leave(self, ticket: Ticket) -> None:
        self._tickets.remove(ticket)
        self._taken_s = None

    def expect(self, ticket: Ticket, prefill_s: float) -> None:
        """One of the line will take so long, as far as is known now."""
        ticket.score = ticket.score._replace(prefill_s=prefill_s)
        self._taken_s = None

    def ahead_s(self, prefill_s: float) -> float:
        """Seconds of those that take no longer than a turn of `prefill_s` would."""
        taken_s = self._taken_s
        if taken_s is None:
            taken_s = self._taken_s = sorted([t.score.prefill_s for t in self._tickets])
            self._sums_s = [0.0, *accumulate(taken_s)]
        return self._sums_s[bisect_right(taken_s, prefill_s)]
