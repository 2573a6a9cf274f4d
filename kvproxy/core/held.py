"""KV that running requests hold, averaged over minutes: room that no idle prefix can have."""

from math import exp, inf

_TIME_CONSTANT_S = 300.0


class HeldTokens:
    """Prompt tokens of requests under way: now, and as an average that forgets in 5 minutes.

    A change of n tokens, t seconds ago, is missing from the average with n * exp(-t / 300 s). What
    is missing is summed up as of `since`, so that it need not be aged with every change.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._missing = 0.0
        self._since = self._until = -inf

    def add(self, tokens: int, now: float) -> None:
        """A request of `tokens` began, or with a negative number ended."""
        if now > self._until:
            # Long before a float runs out.
            self._missing *= exp((self._since - now) / _TIME_CONSTANT_S)
            self._since, self._until = now, now + 20 * _TIME_CONSTANT_S
        self._missing += tokens * exp((now - self._since) / _TIME_CONSTANT_S)
        self.tokens += tokens
        assert self.tokens >= 0

    def average(self, now: float) -> float:
        return self.tokens - self._missing * exp((self._since - now) / _TIME_CONSTANT_S)
