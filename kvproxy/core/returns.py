"""How likely an idle conversation is to come back: what its cached blocks are still worth."""


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
        self._chances = [0.5] * self._BUCKETS

    def began(self) -> None:
        self._ends += 1
        self._refresh()

    def returned(self, gap_s: float) -> None:
        self._gaps[self._bucket(gap_s)] += 1
        self._refresh()

    def chance(self, idle_s: float) -> float:
        # The bucket, spelt out: every replica is asked for every decision.
        doublings = int(idle_s / self._FIRST_S).bit_length() if idle_s > 0 else 0
        return self._chances[doublings if doublings < self._BUCKETS else -1]

    def _bucket(self, gap_s: float) -> int:
        doublings = int(max(0.0, gap_s) / self._FIRST_S).bit_length()
        return min(doublings, self._BUCKETS - 1)

    def _refresh(self) -> None:
        self._ends *= self._FORGET
        later = 0.0
        for index in range(self._BUCKETS - 1, -1, -1):
            self._gaps[index] *= self._FORGET
            # Half of a bucket lies behind its middle.
            self._chances[index] = (later + self._gaps[index] / 2) / (
                later + self._gaps[index] / 2 + self._ends
            )
            later += self._gaps[index]
