"""A token bucket: a rate with a burst of one minute's worth."""

from dataclasses import dataclass, field
from math import inf


@dataclass(slots=True)
class Bucket:
    """`per_min` of anything countable; inf never runs out."""

    per_min: float = inf
    _left: float = field(init=False)
    _at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._left = self.per_min

    def wait_s(self, now: float) -> float:
        """Seconds until something may be taken; 0 when it may be now."""
        if self.per_min == inf:
            return 0.0
        self._fill(now)
        return max(0.0, (1.0 - self._left) * 60.0 / self.per_min)

    def take(self, amount: float, now: float) -> None:
        """May overdraw: what a request costs is known only when it is over."""
        if self.per_min != inf:
            self._fill(now)
            self._left -= amount

    def _fill(self, now: float) -> None:
        earned = max(0.0, now - self._at) * self.per_min / 60.0
        self._left = min(self.per_min, self._left + earned)
        self._at = max(self._at, now)
