"""The largest number of users that is served in time, found and then held.

Climb until a level fails, bisect between the last good and the first bad, hold the answer for a
long time. A level counts requests that were due after it had settled: what an earlier level left
behind is none of its doing. Requests that wait longer than the SLO are misses already, and so are
failures. Good is said soon, since the answer has to stand a hold; bad is final, so it is said when
no doubt is left, or after as long as a hold.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Literal

from loadgen.ramp.controller import Note
from loadgen.ramp.interval import Z_95, Z_99, clustered, wilson
from loadgen.ramp.slo import Observed, Slo

Verdict = Literal["good", "bad"]
# Settling is over after so many times settle_s even if older requests are still under way.
_SETTLES_MAX = 10


@dataclass(frozen=True, slots=True)
class CertifyRule:
    """`attainment` is the share of requests that must meet `slo`. A level settles for `settle_s`,
    is good when it is good for `window_s` and `samples_min` requests, and the answer must stand for
    `hold_s`; all engine seconds. `growth` is the factor of the climb. With `new_tokens_max` users
    begin in periods of `period_s`, so that the first prompts of one bring no more together."""

    slo: Slo
    users_max: int
    users_first: int = 1
    attainment: float = 0.95
    samples_min: int = 40
    settle_s: float = 60.0
    window_s: float = 180.0
    hold_s: float = 600.0
    growth: float = 1.5
    new_tokens_max: int = 0
    period_s: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.users_first <= self.users_max:
            raise ValueError("the first number of users must be between 1 and the largest")
        if not 0 < self.attainment < 1 or self.growth <= 1:
            raise ValueError("attainment must be between 0 and 1 and growth above 1")


@dataclass(frozen=True, slots=True)
class Level:
    """What one number of users showed, from `from_s` to `to_s`."""

    users: int
    held: bool
    from_s: float
    to_s: float
    good: int
    count: int
    low: float
    high: float
    verdict: Verdict | None


@dataclass(slots=True)
class _Tally:
    """`counting_s` is when the level had settled, None before. `clusters`: conversation to
    [good, count]."""

    users: int
    held: bool
    began_s: float
    counting_s: float | None = None
    clusters: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def add(self, conversation: str, good: bool) -> None:
        cluster = self.clusters[conversation]
        cluster[0] += good
        cluster[1] += 1

    def level(self, now: float, verdict: Verdict | None) -> Level:
        pairs = [(good, count) for good, count in self.clusters.values()]
        good, count = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
        from_s = self.counting_s if self.counting_s is not None else now
        low, high = clustered(pairs, Z_95)
        return Level(self.users, self.held, from_s, now, good, count, low, high, verdict)


class CertifyRamp:
    """A `Controller`: climbs, descends, bisects, holds; `done` once a level has been held."""

    def __init__(self, rule: CertifyRule) -> None:
        self.rule = rule
        self.users = rule.users_first
        self.done = False
        self.notes = [Note(0.0, self.users, "start")]
        self.levels: list[Level] = []
        self.capacity: Level | None = None
        self.joining = 0  # users of this level who have not begun yet
        self._good: set[int] = {0}
        self._bad = rule.users_max + 1
        self._tally = _Tally(self.users, held=False, began_s=0.0)
        self._now = 0.0

    def tick(self, now: float, ended: Sequence[Observed], waiting: Sequence[Observed]) -> int:
        if self.done:
            return self.users
        self._now = now
        tally = self._tally
        if tally.counting_s is None:
            if self.joining:
                tally.began_s = now
            if not self._settled(waiting, now):
                return self.users
            tally.counting_s = now
        since = tally.counting_s
        for request in ended:
            met = self.rule.slo.met(request, now)
            if request.due_s >= since and met is not None:
                tally.add(request.conversation, met)
        late = sum(
            request.due_s >= since and self.rule.slo.met(request, now) is False
            for request in waiting
        )
        verdict = self._judge(now, late)
        if verdict is not None:
            # Those that are late by now stay misses however they end.
            for request in waiting:
                if request.due_s >= since and self.rule.slo.met(request, now) is False:
                    tally.add(request.conversation, good=False)
            self._conclude(tally.level(now, verdict), now)
        return self.users

    def result(self) -> dict[str, object]:
        """`users` is None when nothing was certified; `not_users` the least number that failed."""
        found = self.capacity
        running = [] if self.done else [self._tally.level(self._now, None)]
        return {
            "kind": "certify",
            "users": found.users if found else 0 if self.done else None,
            "not_users": self._bad if self._bad <= self.rule.users_max else None,
            "attainment": found.good / found.count if found else None,
            "attainment_low": found.low if found else None,
            "attainment_high": found.high if found else None,
            "goodput_per_s": found.good / (found.to_s - found.from_s) if found else None,
            "held_s": found.to_s - found.from_s if found else None,
            "slo": [str(limit) for limit in self.rule.slo.limits],
            "attainment_asked": self.rule.attainment,
            "levels": [asdict(level) for level in [*self.levels, *running]],
        }

    def _settled(self, waiting: Sequence[Observed], now: float) -> bool:
        """The level has had its time and nothing due before it is still under way."""
        began_s, settle_s = self._tally.began_s, self.rule.settle_s
        if now < began_s + settle_s:
            return False
        left = any(request.due_s < began_s for request in waiting)
        return not left or now >= began_s + _SETTLES_MAX * settle_s

    def _judge(self, now: float, late: int) -> Verdict | None:
        rule, tally = self.rule, self._tally
        assert tally.counting_s is not None
        pairs = tally.clusters.values()
        good, count = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs) + late
        if count < rule.samples_min:
            return None
        low, high = wilson(good, count, Z_99)
        if high < rule.attainment:
            return "bad"
        enough = good >= rule.attainment * count
        counted_s = now - tally.counting_s
        if not tally.held and (low >= rule.attainment or (enough and counted_s >= rule.window_s)):
            return "good"
        if counted_s < rule.hold_s:
            return None
        return "good" if enough else "bad"

    def _conclude(self, level: Level, now: float) -> None:
        self.levels.append(level)
        if level.verdict == "bad":
            self._bad = min(self._bad, level.users)
            self._good = {users for users in self._good if users < self._bad}
        else:
            self._good.add(level.users)
        best = max(self._good)
        if level.held and level.verdict == "good":
            self.capacity, self.done = level, True
            why = f"{level.users} users held"
            following = level.users
        elif best == 0 and self._bad == 1:
            self.done, why, following = True, "not even one user is served in time", 1
        else:
            held = self._bad - best == 1
            following = best if held else self._next(best)
            why = f"{level.users} {level.verdict}: {level.good} of {level.count} in time"
            self._tally = _Tally(following, held, now)
        self.users = following
        self.notes.append(Note(now, following, why))

    def _next(self, best: int) -> int:
        """Grow while nothing has failed, then halve what is in doubt."""
        if self._bad > self.rule.users_max:
            return min(self.rule.users_max, max(best + 1, ceil(best * self.rule.growth)))
        return (best + self._bad) // 2
