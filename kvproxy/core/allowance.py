"""How much of what others have cached large prefills may push out of a busy replica.

An engine shares each step between prefill and decode, so while it prefills a cold 80k-token prompt
every answer under way crawls, keeps its blocks pinned, and pushes out the prefixes of those who
think; they come back as large prefills themselves. Past the cliff that spiral costs more throughput
than an idle engine would. So a prefill beyond `small_s` draws on an allowance that grows at `share`
seconds per second up to `burst_s`, by the harm it does: the expected recompute of what it pushes
out. Where caches hold all that comes back, there is no harm and nobody waits. And the more of the
cache running requests pin, the more must have been saved: large prefills wait for a moment when
little is under way that they could slow down.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AllowanceLimits:
    share: float = 0.2
    burst_s: float = 10.0
    small_s: float = 2.0


@dataclass(slots=True)
class Allowance:
    """Of one replica, in seconds of recompute; it may be overdrawn by one large prefill."""

    limits: AllowanceLimits
    left_s: float
    at: float

    def permits(self, prefill_s: float, pinned: float, now: float) -> bool:
        """Whether a prefill may start: small ones always, any one on an idle replica. `pinned` is
        the share of its cache that running requests hold, 0 for an idle one."""
        if prefill_s <= self.limits.small_s or pinned <= 0:
            return True
        self._grow(now)
        saved = min(1.0, pinned / (1 - pinned)) if pinned < 0.5 else 1.0
        return self.left_s > 0 and self.left_s >= saved * self.limits.burst_s

    def spend(self, harm_s: float, now: float) -> None:
        self._grow(now)
        self.left_s -= harm_s

    def _grow(self, now: float) -> None:
        earned = (now - self.at) * self.limits.share
        self.left_s = min(self.limits.burst_s, self.left_s + earned)
        self.at = now
