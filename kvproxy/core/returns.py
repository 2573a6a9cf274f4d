"""How likely an idle conversation is to come back: what its cached blocks are still worth.

Clients that mark what they want cached say how long they expect to want it (`cache_control`, 5
minutes or an hour). That is a promise nobody is held to, so it is where belief starts: what
conversations with the same mark then do decides.
"""

from bisect import bisect_right
from collections.abc import Callable

# Chance, by the seconds since the last use and those for which it was wanted from then on.
Worth = Callable[[float, float], float]

# Marks are told apart by how long they last: up to so many seconds, or longer.
_SHORT_S = 300.0
# How many conversations' worth of evidence a mark starts with, and what it claims of them.
_PRIOR_ENDS = 8.0
_KEPT_PROMISE = 0.9

_FORGET = 0.999
_BUCKETS = 20
# Where all but the last bucket end; what lies on an end is in the next one.
_ENDS_S = tuple(0.125 * 2**bucket for bucket in range(_BUCKETS - 1))
# Counts grow instead of fading until they are scaled down again, long before a float runs out.
_WEIGHT_MAX = 2.0**40


class Gaps:
    """How long conversations were idle before they came back.

    Gaps between turns fill buckets that double in width; every conversation ends once, so as many
    never returned as began. Both are forgotten at one rate; `prior` weighs as many even chances.
    """

    def __init__(self, prior: float = 1.0) -> None:
        self._gaps = [0.0] * _BUCKETS
        self._ends = prior
        self._gaps[10] = prior
        # What one more counts beside those of before, which are forgotten by that.
        self._weight = 1.0
        self._chances = dict.fromkeys(range(_BUCKETS), 0.5)

    def began(self) -> None:
        self._ends += self._weight
        self._forget()

    def returned(self, gap_s: float) -> None:
        self._gaps[bisect_right(_ENDS_S, gap_s)] += self._weight
        self._forget()

    def chance(self, idle_s: float) -> float:
        bucket = bisect_right(_ENDS_S, idle_s)
        chance = self._chances.get(bucket)
        if chance is None:
            behind = self._behind(bucket)
            chance = self._chances[bucket] = behind / (behind + self._ends or 1.0)
        return chance

    def later(self, idle_s: float) -> tuple[float, float]:
        """(returns after more than `idle_s`, ends) that the chance is made of."""
        return self._behind(bisect_right(_ENDS_S, idle_s)) / self._weight, self._ends / self._weight

    def _behind(self, bucket: int) -> float:
        """Half of a bucket lies behind its middle."""
        return sum(self._gaps[bucket + 1 :]) + self._gaps[bucket] / 2

    def _forget(self) -> None:
        self._weight /= _FORGET
        if self._chances:
            self._chances.clear()
        if self._weight > _WEIGHT_MAX:
            self._gaps = [gap / self._weight for gap in self._gaps]
            self._ends /= self._weight
            self._weight = 1.0


class Returns:
    """Chances by idle time, of all conversations and of those with marks of one length."""

    def __init__(self) -> None:
        self._all = Gaps()
        self._marked: dict[bool, Gaps] = {}

    def began(self, retention_s: float = 0.0) -> None:
        self._all.began()
        if retention_s:
            self._like(retention_s).began()

    def returned(self, gap_s: float, retention_s: float = 0.0) -> None:
        self._all.returned(gap_s)
        if retention_s:
            self._like(retention_s).returned(gap_s)

    def chance(self, idle_s: float, retention_s: float = 0.0) -> float:
        """That a conversation comes back which has been idle for `idle_s`, and had asked to be
        remembered for `retention_s`."""
        chance = self._all.chance(idle_s)
        if not retention_s:
            return chance
        prior = max(chance, _KEPT_PROMISE) if idle_s < retention_s else chance
        later, ends = self._like(retention_s).later(idle_s)
        return (later + _PRIOR_ENDS * prior) / (later + ends + _PRIOR_ENDS)

    def _like(self, retention_s: float) -> Gaps:
        """Conversations that ask for about as long."""
        long = retention_s > _SHORT_S
        gaps = self._marked.get(long)
        if gaps is None:
            gaps = self._marked[long] = Gaps(0.0)
        return gaps
