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


class PrefillRate:
    """Tukey's resistant line through recent clean observations. Until there is one it is presumed
    to be what others of its kind were measured at, and the prior where none was.

    Clean means that the replica had no other prefill of ours to do, so that time to first token
    was this prompt's own work. `news`: others have something to presume by.
    """

    def __init__(self, prior_tok_s: float, base_s: float, prior_s_per_tok2: float = 0.0) -> None:
        assert prior_tok_s > 0 and base_s >= 0 and prior_s_per_tok2 >= 0
        self._prior = 1.0 / prior_tok_s, prior_s_per_tok2, base_s
        self.s_per_tok, self.s_per_tok2, self.base_s = self._prior
        self.news = False
        self._seen = 0
        self._long: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._short: deque[float] = deque(maxlen=_WINDOW)
        self._guessed: deque[float] = deque(maxlen=_WINDOW)

    @property
    def measured(self) -> bool:
        """Whether its seconds a token are its own; `based`: whether those of any prefill are."""
        return bool(self._long or self._guessed)

    @property
    def based(self) -> bool:
        return bool(self._short)

    def presume(self, others: Sequence["PrefillRate"]) -> None:
        """What was not measured here is as it is there. Of two the faster one counts: it costs
        little to find out that it was too much to hope for."""
        s_per_tok, s_per_tok2, base_s = self._prior
        if not self.measured:
            laws = sorted(
                (other.prefill_s(_TYPICAL_MISS, _TYPICAL_PROMPT), other.s_per_tok, other.s_per_tok2)
                for other in others
                if other.measured
            )
            if laws:
                _, s_per_tok, s_per_tok2 = laws[(len(laws) - 1) // 2]
            self.s_per_tok, self.s_per_tok2 = s_per_tok, s_per_tok2
        if not self.based:
            bases = sorted(other.base_s for other in others if other.based)
            self.base_s = bases[(len(bases) - 1) // 2] if bases else base_s

    def prefill_s(self, miss_tokens: float, prompt_tokens: float = 0.0) -> float:
        """Seconds for `miss_tokens` at the end of a prompt of `prompt_tokens`."""
        if not self.s_per_tok2:
            return miss_tokens * self.s_per_tok
        context = max(miss_tokens, prompt_tokens) - miss_tokens / 2
        return miss_tokens * (self.s_per_tok + self.s_per_tok2 * context)

    def observe(
        self, miss_tokens: float, ttft_s: float, alone: bool, prompt_tokens: float = 0.0
    ) -> None:
        if not alone or ttft_s <= 0:
            return
        if miss_tokens < _MISS_TOKENS_MIN:
            self._short.append(max(0.0, ttft_s - self.prefill_s(miss_tokens, prompt_tokens)))
            self.base_s = _median(self._short)
            self._saw()
        elif ttft_s > self.base_s:
            context = max(miss_tokens, prompt_tokens) - miss_tokens / 2
            s_per_tok = (ttft_s - self.base_s) / miss_tokens
            self._long.append((context, max(_S_PER_TOK_MIN, s_per_tok)))
            self._fit()
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
        self._saw()

    def _saw(self) -> None:
        """What is seen first changes most: the first is news, the second, the fourth, and so on."""
        self._seen += 1
        if not self._seen & (self._seen - 1) or not self._seen % _WINDOW:
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
