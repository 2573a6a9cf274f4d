"""kv-cache-tester's ramp: users are added while first tokens come in time, never taken away.

The gates in order are those of its source. `cooldown` adds those that its manual describes and its
source no longer has: requests in flight, and good periods to wait for after bad ones.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from loadgen.ramp.controller import Note
from loadgen.ramp.slo import Observed
from loadgen.stats import quantile

Value = Literal["avg", "p95", "max"]

_WORKING_SET_SHARE = 0.9
_IN_FLIGHT_SHARE = 0.75
_HEADROOM_MIN_PCT = 20.0
_HEADROOM_STEP_PCT = 15.0
_CAREFUL_RAMPS = 2
# Good periods to wait for, by how many bad ones came in a row.
_COOLDOWNS = ((10, 5), (3, 3), (1, 2))


@dataclass(frozen=True, slots=True)
class ClassicRule:
    """Every `period_s` the mean, over `window_periods`, of each period's TTFT `value` is held
    against `ttft_max_s`. 0 in `working_set_tokens_max`, and in `new_tokens_max`, which bounds
    the first prompts of users who begin in one period, is no limit."""

    ttft_max_s: float
    users_max: int
    users_first: int = 1
    period_s: float = 30.0
    window_periods: int = 3
    value: Value = "avg"
    working_set_tokens_max: int = 0
    cooldown: bool = False
    in_flight_max: int = 50
    new_tokens_max: int = 0


@dataclass(frozen=True, slots=True)
class Period:
    """`ttfts` of the window's periods, the one just over last; the rest is as it is now."""

    ttfts: Sequence[Sequence[float]]
    users: int
    in_flight: int = 0
    throttled: bool = False
    working_set_tokens: int = 0


class ClassicGate:
    """How many users to add after each period."""

    def __init__(self, rule: ClassicRule) -> None:
        self._rule = rule
        self._bad = 0
        self._cooldown = 0
        self._careful = 0

    def assess(self, period: Period) -> tuple[int, str]:
        """Users to add, and the gate that decided."""
        rule = self._rule
        values = [_value(ttfts, rule.value) for ttfts in period.ttfts if ttfts]
        rolling_s = fmean(values) if values else None
        exceeded = rolling_s is not None and rolling_s >= rule.ttft_max_s
        ready = not rule.cooldown or self._cooled(exceeded or not period.ttfts[-1])
        if period.throttled:
            return 0, "a user is rate-limited"
        if rolling_s is None:
            return 0, "no first token in the window"
        if exceeded:
            return 0, f"ttft {rolling_s:.3g} s is over the limit"
        if rule.cooldown and period.in_flight >= _IN_FLIGHT_SHARE * rule.in_flight_max:
            return 0, f"{period.in_flight} requests in flight"
        if not ready:
            return 0, "cooling down"
        cap = rule.working_set_tokens_max
        if cap and period.working_set_tokens > _WORKING_SET_SHARE * cap:
            return 0, f"working set of {period.working_set_tokens} tokens"
        headroom_pct = 100.0 * (rule.ttft_max_s - rolling_s) / rule.ttft_max_s
        if headroom_pct < _HEADROOM_MIN_PCT:
            return 0, f"headroom of {headroom_pct:.0f} %"
        asked = max(1, 1 + int(headroom_pct // _HEADROOM_STEP_PCT))
        if self._careful:
            self._careful -= 1
            asked = 1
        return max(0, min(asked, rule.users_max - period.users)), f"headroom {headroom_pct:.0f} %"

    def _cooled(self, bad: bool) -> bool:
        """Count this period; True when nothing is left to wait for."""
        if bad:
            self._bad += 1
            self._cooldown = next(wait for least, wait in _COOLDOWNS if self._bad >= least)
            self._careful = _CAREFUL_RAMPS
            return False
        self._bad = 0
        if self._cooldown:
            self._cooldown -= 1
            return False
        return True


class ClassicRamp:
    """The gate on the clock: a `Controller` that assesses at the end of every period."""

    def __init__(self, rule: ClassicRule) -> None:
        self.rule = rule
        self.users = min(rule.users_first, rule.users_max)
        self.done = False
        self.notes = [Note(0.0, self.users, "start")]
        self.working_set_tokens = 0
        self._gate = ClassicGate(rule)
        self._periods = 0
        self._window: deque[list[float]] = deque([[]], maxlen=rule.window_periods)
        self._unassigned: list[Observed] = []

    def tick(self, now: float, ended: Sequence[Observed], waiting: Sequence[Observed]) -> int:
        self._unassigned += ended
        self._assign()
        while now >= (self._periods + 1) * self.rule.period_s:
            self._assess(waiting)
            self._assign()
        return self.users

    def lose(self, reasons: Sequence[str], now: float) -> None:
        """Users who did not fit the budget, and why, one a user; the ramp may add them again."""
        self.users -= len(reasons)
        self.notes.append(Note(now, self.users, f"{len(reasons)} did not fit: {reasons[-1]}"))

    def result(self) -> dict[str, object]:
        return {"kind": "classic", "users": self.users, "users_max": self.rule.users_max}

    def _assign(self) -> None:
        """A first token counts in the period it fell in, once its request has succeeded."""
        later = []
        for request in self._unassigned:
            if request.failed or request.first_token_s is None or request.ttft_s is None:
                continue
            if request.cut_s is not None:
                continue
            age = self._periods - int(request.first_token_s // self.rule.period_s)
            if age < 0:
                later.append(request)
            elif age < len(self._window):
                self._window[-1 - age].append(request.ttft_s)
        self._unassigned = later

    def _assess(self, waiting: Sequence[Observed]) -> None:
        self._periods += 1
        throttled = any(request.throttled for request in waiting)
        period = Period(
            list(self._window), self.users, len(waiting), throttled, self.working_set_tokens
        )
        more, why = self._gate.assess(period)
        self.users += more
        self.notes.append(Note(self._periods * self.rule.period_s, self.users, why))
        self._window.append([])
        # Users are added for first tokens, which nobody is left to bring.
        self.done = not self.users and not any(self._window)


def _value(ttfts: Sequence[float], value: Value) -> float:
    if value == "avg":
        return fmean(ttfts)
    return max(ttfts) if value == "max" else quantile(sorted(ttfts), 0.95)
