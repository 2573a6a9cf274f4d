"""Users added while first tokens come in time: kv-cache-tester's documented, cooldown-gated ramp.

Users are never taken away. A period without first tokens counts as a bad one.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from loadgen.simulate.world import World

_WINDOW_PERIODS = 3
_HEADROOM_MIN_PCT = 20.0
_HEADROOM_STEP_PCT = 15.0
_CAREFUL_RAMPS = 2


@dataclass(frozen=True, slots=True)
class RampRule:
    """Every `period_s` the p95 TTFT of recent periods is held against `ttft_max_s`."""

    ttft_max_s: float
    users_max: int
    period_s: float = 30.0
    users_first: int = 1


class RampGate:
    """How many users to add after each period. Good periods needed after bad ones: 2, 3, 5."""

    def __init__(self, rule: RampRule) -> None:
        self._rule = rule
        self._recent: deque[float] = deque(maxlen=_WINDOW_PERIODS)
        self._bad = 0
        self._cooldown = 0
        self._careful = 0

    def more(self, ttfts: Sequence[float], users: int) -> int:
        """`ttfts` are the first tokens of the period just over."""
        if ttfts:
            self._recent.append(sorted(ttfts)[int(0.95 * (len(ttfts) - 1))])
        rolling_s = fmean(self._recent) if self._recent else 0.0
        if not ttfts or rolling_s >= self._rule.ttft_max_s:
            self._bad += 1
            self._cooldown = 2 if self._bad <= 2 else 3 if self._bad <= 9 else 5
            self._careful = _CAREFUL_RAMPS
            return 0
        self._bad = 0
        if self._cooldown:
            self._cooldown -= 1
            return 0
        headroom_pct = 100.0 * (self._rule.ttft_max_s - rolling_s) / self._rule.ttft_max_s
        if headroom_pct < _HEADROOM_MIN_PCT:
            return 0
        asked = 1 + int(headroom_pct / _HEADROOM_STEP_PCT)
        if self._careful:
            self._careful -= 1
            asked = 1
        return min(asked, self._rule.users_max - users)


class Ramp:
    """`add` starts one more user at the time it is given."""

    def __init__(self, rule: RampRule, world: World, add: Callable[[float], None]) -> None:
        self.users = 0
        self._rule = rule
        self._gate = RampGate(rule)
        self._world = world
        self._add = add
        self._heard = 0

    def start(self, now: float) -> None:
        self._grow(self._rule.users_first, now)
        self._world.at(now + self._rule.period_s, self._assess)

    def _assess(self, now: float) -> None:
        ttfts = self._world.ttfts[self._heard :]
        self._heard = len(self._world.ttfts)
        self._grow(self._gate.more(ttfts, self.users), now)
        self._world.at(now + self._rule.period_s, self._assess)

    def _grow(self, count: int, now: float) -> None:
        for _ in range(count):
            self.users += 1
            self._add(now)
