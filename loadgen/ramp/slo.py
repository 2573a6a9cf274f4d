"""What counts as served in time: limits on latencies, looser for prompts that no cache could help.

A request is judged as soon as its fate is sealed: one that has waited longer than its limit is a
miss now, not when it ends, and one that failed is a miss.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from kvproxy.core.units import format_count, parse_count

Metric = Literal["ttft_s", "itl_s", "e2e_s"]
METRICS: tuple[str, ...] = get_args(Metric)
_LIMIT = re.compile(r"(\w+?)(?:@([^=]+))?=(.+)")


@dataclass(frozen=True, slots=True)
class Observed:
    """One request as far as it has got. Times are engine seconds since the start of the run, None
    for what has not happened; `cut_s` is when this side gave it up. `uncached_tokens` is the part
    of the prompt that an unlimited cache would not have held, so that a cache cannot excuse itself
    by missing."""

    conversation: str
    due_s: float
    first_token_s: float | None = None
    end_s: float | None = None
    itl_s: float | None = None
    failed: bool = False
    throttled: bool = False
    uncached_tokens: int = 0
    cut_s: float | None = None

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token_s is None else self.first_token_s - self.due_s


@dataclass(frozen=True, slots=True)
class Limit:
    """`metric` at most `most_s`, for requests with at least `uncached_min` uncached tokens."""

    metric: Metric
    most_s: float
    uncached_min: int = 0

    def __str__(self) -> str:
        where = f"@{format_count(self.uncached_min)}" if self.uncached_min else ""
        return f"{self.metric}{where}={self.most_s:g}"


@dataclass(frozen=True, slots=True)
class Slo:
    """All limits have to hold. Of those on one metric the largest class that fits decides."""

    limits: tuple[Limit, ...]

    def __post_init__(self) -> None:
        if not self.limits:
            raise ValueError("an SLO needs at least one limit")

    def most_s(self, metric: Metric, uncached_tokens: int) -> float | None:
        fitting = [
            limit
            for limit in self.limits
            if limit.metric == metric and limit.uncached_min <= uncached_tokens
        ]
        return max(fitting, key=lambda limit: limit.uncached_min).most_s if fitting else None

    def met(self, request: Observed, now: float) -> bool | None:
        """None while it can still go either way, and of one that was cut while it could."""
        now = now if request.cut_s is None else request.cut_s
        ended = request.end_s is not None
        if ended and request.failed:
            return False
        first_s = request.first_token_s if request.first_token_s is not None else now
        end_s = request.end_s if request.end_s is not None else now
        reached: tuple[tuple[Metric, float | None], ...] = (
            ("ttft_s", first_s - request.due_s),
            ("e2e_s", end_s - request.due_s),
            ("itl_s", request.itl_s),
        )
        for metric, seconds in reached:
            most_s = self.most_s(metric, request.uncached_tokens)
            if most_s is not None and seconds is not None and seconds > most_s:
                return False
        return True if ended else None


def parse_limit(text: str) -> Limit:
    """`ttft_s=2`, or `ttft_s@16k=8` for prompts with 16k uncached tokens or more."""
    found = _LIMIT.fullmatch(text.replace(" ", ""))
    if found is None or found[1] not in METRICS:
        raise ValueError(f"{text!r} is no limit; accepted: {', '.join(METRICS)} as in ttft_s=2, "
                         "or ttft_s@16k=8 for prompts with that many uncached tokens")  # fmt: skip
    try:
        most_s = float(found[3])
    except ValueError as error:
        raise ValueError(f"{text!r}: {found[3]!r} is not a number of seconds") from error
    if not 0 < most_s < float("inf"):
        raise ValueError(f"{text!r}: the limit must be positive")
    metric: Metric = found[1]  # type: ignore[assignment]  # checked against METRICS above
    return Limit(metric, most_s, parse_count(found[2]) if found[2] else 0)
