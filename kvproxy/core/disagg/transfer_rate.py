"""How fast KV comes from another replica, learned from what transfers took."""

from collections import deque

_WINDOW = 31
# Shorter transfers measure handshakes, not the wire.
_TOKENS_MIN = 1024


class TransferRate:
    """Median of recent tokens per second; the prior until there is one."""

    def __init__(self, prior_tok_s: float) -> None:
        assert prior_tok_s > 0
        self.tok_s = prior_tok_s
        self._seen: deque[float] = deque(maxlen=_WINDOW)

    def observe(self, tokens: int, seconds: float) -> None:
        if tokens < _TOKENS_MIN or seconds <= 0:
            return
        self._seen.append(tokens / seconds)
        self.tok_s = sorted(self._seen)[len(self._seen) // 2]
