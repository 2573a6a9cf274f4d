"""Work reserved on a replica: added at the decision, taken back exactly once.

A hold is prefill until its first token and decode until its end. The queue of a replica is the
prefill it still owes us, of which the oldest part has been worked on since the last sign of life.
"""

from dataclasses import dataclass, field
from math import inf

from msgspec import Struct

_TYPICAL_SHARE = 0.05


class Hold(Struct, eq=False, gc=False):
    """A request's claim on a replica. `prefill_s` is what the decision expected, in seconds."""

    replica: str
    prefill_s: float
    at: float
    alone: bool
    first_token_at: float | None = None
    released: bool = False


@dataclass(slots=True)
class Load:
    """Counters of one replica; only reserve, revise, first_token and release change them, and what
    is heard of others. `decoding`: answers under way, ours and, as of the last scrape, others';
    `waiting_s`: what `waiting` takes. A new prefill could start at `free_at`, if what is worked on
    ends as expected; later it is worked on still, and `behind_s` seconds are left."""

    in_flight: int = 0
    decoding: int = 0
    waiting: dict[int, Hold] = field(default_factory=dict)
    waiting_s: float = 0.0
    progress_at: float = 0.0
    free_at: float = -inf
    behind_s: float = 0.0
    typical_s: float = 0.0
    foreign_waiting: int = 0
    foreign_running: int = 0
    peers_waiting: int = 0
    peers_waiting_s: float = 0.0
    peers_decoding: int = 0
    declines_until: float = 0.0
    _extra: tuple[int, int] = (0, 0)

    def reserve(self, replica: str, prefill_s: float, now: float) -> Hold:
        waiting = self.waiting
        alone = not waiting and not self.foreign_waiting
        hold = Hold(replica, prefill_s, now, alone)
        if not waiting:
            self.progress_at = now
        waiting[id(hold)] = hold
        self.waiting_s += prefill_s
        self.typical_s += (prefill_s - self.typical_s) * _TYPICAL_SHARE
        self.in_flight += 1
        if alone:
            self.free_at = now + prefill_s
        else:
            self._recount()
        return hold

    def first_token(self, hold: Hold, now: float) -> None:
        assert not hold.released
        if hold.first_token_at is None:
            hold.first_token_at = now
            self.decoding += 1
            self._leave_queue(hold, now)

    def release(self, hold: Hold, now: float) -> None:
        assert not hold.released, "a hold is released once"
        hold.released = True
        self.in_flight -= 1
        if hold.first_token_at is None:
            self._leave_queue(hold, now)
        else:
            self.decoding -= 1

    def revise(self, hold: Hold, prefill_s: float) -> None:
        """It will take so long after all, unless it has begun to answer."""
        if hold.first_token_at is None and not hold.released:
            self.waiting_s += prefill_s - hold.prefill_s
            hold.prefill_s = prefill_s
            self._recount()

    def decline(self, until: float) -> None:
        """It asks for no more work until then."""
        self.declines_until = max(self.declines_until, until)

    def scraped(self, running: int, waiting: int) -> None:
        """What the engine says of itself: more than what is ours came from elsewhere."""
        own_running = self.decoding - self.foreign_running
        # Engines count what they prefill as running: it is no answer under way.
        prefilling = max(0, len(self.waiting) + self.peers_waiting - waiting)
        self._extra = (waiting - len(self.waiting), running - own_running - prefilling)
        self._see_foreign()

    def peers(self, decoding: int, waiting: int, waiting_s: float) -> None:
        """What other proxies say they have here, fresher than any scrape."""
        self.peers_decoding, self.peers_waiting = decoding, waiting
        self.peers_waiting_s = waiting_s if waiting else 0.0
        self._see_foreign()

    def _see_foreign(self) -> None:
        waiting, running = self._extra
        self.foreign_waiting = max(self.peers_waiting, waiting)
        before, self.foreign_running = self.foreign_running, max(self.peers_decoding, running)
        self.decoding += self.foreign_running - before
        self._recount()

    def queue_s(self, now: float) -> float:
        """Seconds until a new prefill would start here; others' of which nothing else is known are
        taken for typical ones."""
        left_s = self.free_at - now
        queue_s = left_s if left_s > self.behind_s else self.behind_s  # noqa: FURB136
        return queue_s if self.declines_until <= now else queue_s + self.declines_until - now

    def own_queue_s(self, now: float) -> float:
        """The part of queue_s() that was placed here."""
        others_s = self._others_s()
        return max(self.free_at - now, self.behind_s) - others_s if self.waiting else 0.0

    def _leave_queue(self, hold: Hold, now: float) -> None:
        waiting = self.waiting
        del waiting[id(hold)]
        # An empty queue owes nothing: rounding must not add up over millions of requests.
        self.waiting_s = self.waiting_s - hold.prefill_s if waiting else 0.0
        self.progress_at = now
        if waiting or self.foreign_waiting:
            self._recount()
        else:
            self.free_at, self.behind_s = -inf, 0.0

    def _recount(self) -> None:
        """What queue_s() says until the next change."""
        self.behind_s, self.free_at = self._others_s(), -inf
        if self.waiting:
            self.free_at = self.progress_at + self.waiting_s + self.behind_s
            worked_on = next(iter(self.waiting.values()))
            self.behind_s += max(0.0, self.waiting_s - worked_on.prefill_s)

    def _others_s(self) -> float:
        unknown = self.foreign_waiting - self.peers_waiting
        return unknown * self.typical_s + self.peers_waiting_s
