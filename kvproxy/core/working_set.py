"""How much KV conversations have lately used: what the caches would have to hold to miss nothing.

A conversation counts with its latest prompt, on the replica of its latest turn, in every window
that reaches back to that turn. Text that conversations share counts once for each.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

WINDOWS_S = (60.0, 300.0, 900.0, 3600.0)


class Use(NamedTuple):
    replica: str
    tokens: int
    at: float


class WorkingSet:
    """One entry a conversation and window, at most `sessions_max` of them; the oldest go first."""

    def __init__(self, sessions_max: int, windows_s: Sequence[float] = WINDOWS_S) -> None:
        assert sessions_max > 0
        self.windows_s = tuple(windows_s)
        self._windows = {window_s: _Window(window_s, sessions_max) for window_s in windows_s}

    def touch(self, key: Hashable, replica: str, tokens: int, now: float) -> None:
        """A turn of `tokens` prompt tokens went to `replica`."""
        for window in self._windows.values():
            window.touch(key, Use(replica, tokens, now))

    def tokens(self, window_s: float, now: float, replica: str | None = None) -> int:
        """Used within `window_s`, which must be one of the windows, on one replica or on all."""
        window = self._windows[window_s]
        window.expire(now)
        return window.by_replica[replica] if replica is not None else window.total

    def by_replica(self, window_s: float, now: float) -> Mapping[str, int]:
        """As `tokens`, of all replicas at once; not to be kept."""
        window = self._windows[window_s]
        window.expire(now)
        return window.by_replica

    def sessions(self, window_s: float, now: float) -> int:
        window = self._windows[window_s]
        window.expire(now)
        return len(window.uses)


class _Window:
    def __init__(self, length_s: float, sessions_max: int) -> None:
        self._length_s = length_s
        self._sessions_max = sessions_max
        self.uses: OrderedDict[Hashable, Use] = OrderedDict()
        self.by_replica: defaultdict[str, int] = defaultdict(int)
        self.total = 0

    def touch(self, key: Hashable, use: Use) -> None:
        before = self.uses.pop(key, None)
        if before is not None:
            self._count(before, -1)
        self.uses[key] = use
        self._count(use, 1)
        if len(self.uses) > self._sessions_max:
            self._drop_oldest()
        self.expire(use.at)

    def expire(self, now: float) -> None:
        while self.uses and now - next(iter(self.uses.values())).at > self._length_s:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, use = self.uses.popitem(last=False)
        self._count(use, -1)

    def _count(self, use: Use, sign: int) -> None:
        self.by_replica[use.replica] += sign * use.tokens
        self.total += sign * use.tokens
