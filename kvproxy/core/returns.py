"""How likely an idle conversation is to come back: what its cached blocks are still worth."""

# Counts grow instead of fading until they are scaled down again, long before a float runs out.
_WEIGHT_MAX = 2.0**40


class Returns:
    """How likely a conversation that has been idle for so long is to come back.

    Gaps between turns fill buckets that double in width; every conversation ends once, so as many
    never returned as began. Both are forgotten at one rate, and the prior is one even chance.
    """

    _FORGET = 0.999
    _BUCKETS = 20
    _FIRST_S = 0.125

    def __init__(self) -> None:
        self._gaps = [0.0] * self._BUCKETS
        self._ends = 1.0
        self._gaps[10] = 1.0
        # What one more counts beside those of before, which are forgotten by that.
        self._weight = 1.0
        self._chances = dict.fromkeys(range(self._BUCKETS), 0.5)

    def began(self) -> None:
        self._ends += self._weight
        self._forget()

    def returned(self, gap_s: float) -> None:
        self._gaps[self._bucket(gap_s)] += self._weight
        self._forget()

    def chance(self, idle_s: float) -> float:
        bucket = self._bucket(idle_s)
        chance = self._chances.get(bucket)
        if chance is None:
            # Half of a bucket lies behind its middle.
            later = sum(self._gaps[bucket + 1 :]) + self._gaps[bucket] / 2
            chance = self._chances[bucket] = later / (later + self._ends)
        return chance

    def _bucket(self, gap_s: float) -> int:
        doublings = int(gap_s / self._FIRST_S).bit_length() if gap_s > 0 else 0
        return doublings if doublings < self._BUCKETS else self._BUCKETS - 1

    def _forget(self) -> None:
        self._weight /= self._FORGET
        if self._chances:
            self._chances.clear()
        if self._weight > _WEIGHT_MAX:
            self._gaps = [gap / self._weight for gap in self._gaps]
            self._ends /= self._weight
            self._weight = 1.0
