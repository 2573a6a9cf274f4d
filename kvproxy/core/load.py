"""Work reserved on a replica: added at the decision, taken back exactly once.

A hold is prefill until its first token and decode until its end. The queue of a replica is the
prefill it still owes us, of which the oldest part has been worked on since the last sign of life.
"""

from dataclasses import dataclass, field

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
    """Counters of one replica; only reserve, revise, first_token and release change them."""

    in_flight: int = 0
    waiting: dict[int, Hold] = field(default_factory=dict)
    waiting_s: float = 0.0
    progress_at: float = 0.0
    typical_s: float = 0.0
    foreign_waiting: int = 0
    foreign_running: int = 0
    peers_waiting: int = 0
    peers_waiting_s: float = 0.0
    peers_decoding: int = 0
    declines_until: float = 0.0
    _extra: tuple[int, int] = (0, 0)

    def reserve(self, replica: str, prefill_s: float, now: float) -> Hold:
        hold = Hold(replica, prefill_s, now, alone=not self.waiting and not self.foreign_waiting)
        if not self.waiting:
            self.progress_at = now
        self.waiting[id(hold)] = hold
        self.waiting_s += prefill_s
        self.typical_s += (prefill_s - self.typical_s) * _TYPICAL_SHARE
        self.in_flight += 1
        return hold

    def first_token(self, hold: Hold, now: float) -> None:
        assert not hold.released
        if hold.first_token_at is None:
            hold.first_token_at = now
            self._leave_queue(hold, now)

    def release(self, hold: Hold, now: float) -> None:
        assert not hold.released, "a hold is released once"
        hold.released = True
        self.in_flight -= 1
        if hold.first_token_at is None:
            self._leave_queue(hold, now)

    def revise(self, hold: Hold, prefill_s: float) -> None:
        """It will take so long after all, unless it has begun to answer."""
        if hold.first_token_at is None and not hold.released:
            self.waiting_s += prefill_s - hold.prefill_s
            hold.prefill_s = prefill_s

    def decline(self, until: float) -> None:
        """It asks for no more work until then."""
        self.declines_until = max(self.declines_until, until)

    def scraped(self, running: int, waiting: int) -> None:
        """What the engine says of itself: more than what is ours came from elsewhere."""
        own_running = self.in_flight - len(self.waiting)
        self._extra = (waiting - len(self.waiting), running - own_running)
        self._see_foreign()

    def peers(self, decoding: int, waiting: int, waiting_s: float) -> None:
        """What other proxies say they have here, fresher than any scrape."""
        self.peers_decoding, self.peers_waiting = decoding, waiting
        self.peers_waiting_s = waiting_s if waiting else 0.0
        self._see_foreign()

    def _see_foreign(self) -> None:
        waiting, running = self._extra
        self.foreign_waiting = max(self.peers_waiting, waiting)
        self.foreign_running = max(self.peers_decoding, running)

    @property
    def decoding(self) -> int:
        """Answers under way, ours and, as of the last scrape, others'."""
        return self.in_flight - len(self.waiting) + self.foreign_running

    def queue_s(self, now: float) -> float:
        """Seconds until a new prefill would start here; others' of which nothing else is known are
        taken for typical ones."""
        unknown = self.foreign_waiting - self.peers_waiting
        foreign_s = unknown * self.typical_s + self.peers_waiting_s
        if self.declines_until > now:
            foreign_s += self.declines_until - now
        return foreign_s + self.own_queue_s(now) if self.waiting else foreign_s

    def own_queue_s(self, now: float) -> float:
        """The part of queue_s() that was placed here."""
        if not self.waiting:
            return 0.0
        oldest = next(iter(self.waiting.values()))
        # Not by min and max: this is asked of every replica for every decision.
        worked_s = now - self.progress_at
        worked_s = worked_s if worked_s < oldest.prefill_s else oldest.prefill_s  # noqa: FURB136
        left_s = self.waiting_s - worked_s if worked_s > 0 else self.waiting_s
        return left_s if left_s > 0 else 0.0

    def _leave_queue(self, hold: Hold, now: float) -> None:
        del self.waiting[id(hold)]
        # An empty queue owes nothing: rounding must not add up over millions of requests.
        self.waiting_s = self.waiting_s - hold.prefill_s if self.waiting else 0.0
        self.progress_at = now
