"""The prefill law of a replica, learned from what it did.

seconds = base + m x (a + b x c), for m uncached tokens whose mean context is c: the second term is
attention over what lies before them. For a prompt of L tokens c = L - m / 2.
"""

from collections import deque
from collections.abc import Sequence

_WINDOW = 31
# No engine prefills a billion tokens a second: less is a clock's grain, and must not become zero.
_S_PER_TOK_MIN = 1e-9
# Shorter prefills measure latency, not throughput.
_MISS_TOKENS_MIN = 512
# Of prompts that looked cold some were cached all the same: those are the fast ones.
_SLOW_QUARTER = 4
# A slope needs contexts that differ by this much, or it is the noise's.
_CONTEXT_RATIO_MIN = 2.0
# What rates are compared by where they bend differently.
_TYPICAL_MISS, _TYPICAL_PROMPT = 8_192, 32_768
# Which observations others are told of, besides every one that fills the window again.
_NEWS = (1, 4)


class PrefillRate:
    """Tukey's resistant line through recent clean observations. Until there is one it is presumed
    to be what others of its kind were measured at, and the prior where none was.

    Clean means that the replica had no other prefill of ours to do, so that time to first token
    was this prompt's own work. `measured`: its seconds a token are its own; `based`: those that
    any prefill takes are. `news`: others have something to presume by.
    """

    def __init__(self, prior_tok_s: float, base_s: float, prior_s_per_tok2: float = 0.0) -> None:
        assert prior_tok_s > 0 and base_s >= 0 and prior_s_per_tok2 >= 0
        self._prior = 1.0 / prior_tok_s, prior_s_per_tok2, base_s
        self.s_per_tok, self.s_per_tok2, self.base_s = self._prior
        self.measured = self.based = self.news = False
        self._seen = 0
        self._long: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._short: deque[float] = deque(maxlen=_WINDOW)
        self._guessed: deque[float] = deque(maxlen=_WINDOW)

    def law(self) -> tuple[float, float, float]:
        """Seconds of a typical prefill, a token, and a token for each token of context."""
        typical_s = self.prefill_s(_TYPICAL_MISS, _TYPICAL_PROMPT)
        return typical_s, self.s_per_tok, self.s_per_tok2

    def presume(self, law: tuple[float, float, float] | None, base_s: float | None) -> None:
        """What was not measured here is as it was elsewhere; None where nobody was."""
        prior_s, prior_s2, prior_base_s = self._prior
        if not self.measured:
            _, self.s_per_tok, self.s_per_tok2 = law or (0.0, prior_s, prior_s2)
        if not self.based:
            self.base_s = prior_base_s if base_s is None else base_s

    def prefill_s(self, miss_tokens: float, prompt_tokens: float = 0.0) -> float:
        """Seconds for `miss_tokens` at the end of a prompt of `prompt_tokens`."""
        if not self.s_per_tok2:
            return miss_tokens * self.s_per_tok
        context = max(miss_tokens, prompt_tokens) - miss_tokens / 2
        return miss_tokens * (self.s_per_tok + self.s_per_tok2 * context)

    def observe(
        self, miss_tokens: float, ttft_s: float, alone: bool, prompt_tokens: float = 0.0
    ) -> None:
        if not alone or ttft_s <= 0 or miss_tokens < 0:
            return
        # What others take for any prefill must not keep a faster one from being measured.
        base_s = self.base_s if self.based or ttft_s > self.base_s else self._prior[2]
        if miss_tokens < _MISS_TOKENS_MIN:
            self._short.append(max(0.0, ttft_s - self.prefill_s(miss_tokens, prompt_tokens)))
            self.base_s, self.based = _median(self._short), True
            self._saw()
        elif ttft_s > base_s:
            context = max(miss_tokens, prompt_tokens) - miss_tokens / 2
            s_per_tok = (ttft_s - base_s) / miss_tokens
            self._long.append((context, max(_S_PER_TOK_MIN, s_per_tok)))
            self._fit()
            self.measured = True
            self._saw()

    def guess(self, prompt_tokens: float, ttft_s: float, alone: bool) -> None:
        """Of a prompt that looked cold to us, from an engine that does not say what was cached.
        Counts until one does say, and against a prior that nobody measured, which may be off by
        orders of magnitude: one with a slope was measured."""
        if self._long or self._prior[1] or not alone:
            return
        if ttft_s <= 0 or prompt_tokens < _MISS_TOKENS_MIN:
            return
        self._guessed.append(max(_S_PER_TOK_MIN, ttft_s / prompt_tokens))
        slowest = sorted(self._guessed, reverse=True)
        self.s_per_tok, self.s_per_tok2 = slowest[len(slowest) // _SLOW_QUARTER], 0.0
        self.measured = True
        self._saw()

    def _saw(self) -> None:
        """What is seen first changes most."""
        seen = self._seen = self._seen + 1
        if seen in _NEWS or not seen % _WINDOW:
            self.news = True

    def _fit(self) -> None:
        """Slope between the medians of the outer thirds, intercept as the median residual."""
        points = sorted(self._long)
        third = len(points) // 3
        if third >= 2:
            # They lie in the order of their contexts.
            near, far = points[third // 2][0], points[third // 2 - third][0]
            if far >= _CONTEXT_RATIO_MIN * near:
                low, high = [y for _, y in points[:third]], [y for _, y in points[-third:]]
                self.s_per_tok2 = max(0.0, (_median(high) - _median(low)) / (far - near))
        slope = self.s_per_tok2
        linear = _median([y - slope * x for x, y in points])
        if linear > 0:
            self.s_per_tok = linear
        else:
            # The slope explains more than all of it: rather none than a negative rate.
            self.s_per_tok, self.s_per_tok2 = _median([y for _, y in points]), 0.0


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
