"""Rates learned from what replicas did: seconds per uncached prompt token."""

from collections import deque

_WINDOW = 15
# Shorter prefills measure latency, not throughput.
_MISS_TOKENS_MIN = 512


class PrefillRate:
    """Median of recent clean observations; the prior until there is one.

    Clean means that the replica had no other prefill of ours to do, so that time to first token
    was this prompt's own work.
    """

    def __init__(self, prior_tok_s: float, base_s: float) -> None:
        assert prior_tok_s > 0 and base_s >= 0
        self._base_s = base_s
        self._samples: deque[float] = deque(maxlen=_WINDOW)
        self.s_per_tok = 1.0 / prior_tok_s

    def prefill_s(self, miss_tokens: float) -> float:
        return miss_tokens * self.s_per_tok

    def observe(self, miss_tokens: float, ttft_s: float, alone: bool) -> None:
        if not alone or miss_tokens < _MISS_TOKENS_MIN or ttft_s <= self._base_s:
            return
        self._samples.append((ttft_s - self._base_s) / miss_tokens)
        self.s_per_tok = sorted(self._samples)[len(self._samples) // 2]
