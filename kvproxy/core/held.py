"""KV that running requests hold, averaged over minutes: room that no idle prefix can have."""

from math import exp, inf

_TIME_CONSTANT_S = 300.0


class HeldTokens:
    """Prompt tokens of requests under way: now, and as an average that forgets in 5 minutes."""

    def __init__(self) -> None:
        self.tokens = 0
        self._average = 0.0
        self._at = -inf

    def add(self, tokens: int, now: float) -> None:
        """A request of `tokens` began, or with a negative number ended."""
        if now > self._at:
            kept = exp((self._at - now) / _TIME_CONSTANT_S)
            self._average = self.tokens + (self._average - self.tokens) * kept
            self._at = now
        self.tokens += tokens
        assert self.tokens >= 0

    def average(self, now: float) -> float:
        kept = exp(min(0.0, self._at - now) / _TIME_CONSTANT_S)
        return self.tokens + (self._average - self.tokens) * kept
