"""A run period by period: the figures behind charts and kv-cache-tester's summary table.

Input and TTFT belong to the period of the first token, output tokens and the end of a request to
the one it ended in. All times are engine seconds.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, inf

from kvproxy.core.working_set import WINDOWS_S, WorkingSet
from loadgen.sample import Sample
from loadgen.stats import bound_of, quantile

_CONVERSATIONS_MAX = 1_000_000


@dataclass(slots=True)
class Period:
    """One period. Latencies are those of requests that succeeded, unsorted, in seconds; tokens are
    as engines reported them, slow readers' times left out; `working_set` is live tokens by window
    at its end. `told`: answers of this run say what was cached."""

    start_s: float
    end_s: float
    sent: int = 0
    ended: int = 0
    failed: int = 0
    in_flight: int = 0
    users: set[str] = field(default_factory=set)
    ttfts_s: list[float] = field(default_factory=list)
    itls_s: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    predicted_tokens: int = 0
    bound_tokens: float = 0.0
    output_tokens: int = 0
    by_replica: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    working_set: dict[float, int] = field(default_factory=dict)
    told: bool = True

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def hit_rate(self) -> float | None:
        """None where nobody said."""
        known = self.told and self.prompt_tokens
        return self.cached_tokens / self.prompt_tokens if known else None


def timeline(
    samples: Sequence[Sample], time_scale: float, duration_s: float, period_s: float
) -> list[Period]:
    """`duration_s` real seconds of run in periods of `period_s` engine seconds."""
    count = max(1, ceil(duration_s * time_scale / period_s))
    told = any(sample.cached_tokens is not None for sample in samples)
    periods = [Period(k * period_s, (k + 1) * period_s, told=told) for k in range(count)]

    def at(seconds: float) -> Period:
        return periods[min(count - 1, int(seconds * time_scale // period_s))]

    for sample in samples:
        _count(sample, at)
    _in_flight(samples, periods, time_scale)
    _working_set(samples, periods, time_scale)
    return periods


def quantiles(values: Sequence[float], *shares: float) -> list[float | None]:
    ordered = sorted(values)
    return [quantile(ordered, share) if ordered else None for share in shares]


def _count(sample: Sample, at: Callable[[float], Period]) -> None:
    begun = at(sample.t_intended)
    begun.sent += 1
    begun.users.add(sample.conversation)
    if sample.cut:
        return
    if sample.t_end is not None:
        over = at(sample.t_end)
        over.ended += 1
        over.failed += not sample.ok
        over.output_tokens += sample.completion_tokens or 0
        if sample.ok and sample.itl_s is not None and sample.fault != "slow":
            over.itls_s.append(sample.itl_s)
    if sample.ok and sample.t_first_token is not None and sample.ttft_s is not None:
        first = at(sample.t_first_token)
        if sample.fault != "slow":
            first.ttfts_s.append(sample.ttft_s)
        first.prompt_tokens += sample.prompt_tokens or 0
        first.cached_tokens += sample.cached_tokens or 0
        first.predicted_tokens += sample.predicted_cached_tokens or 0
        first.bound_tokens += bound_of(sample)
        first.by_replica[sample.replica] += 1


def _in_flight(samples: Sequence[Sample], periods: Sequence[Period], time_scale: float) -> None:
    """At each period's end; what was cut when the run ended was in flight until then."""
    for sample in samples:
        end_s = sample.t_end if sample.t_end is not None else inf
        for period in periods[int(sample.t_intended * time_scale // periods[0].length_s) :]:
            if end_s * time_scale < period.end_s:
                break
            period.in_flight += 1


def _working_set(samples: Sequence[Sample], periods: Sequence[Period], time_scale: float) -> None:
    live = WorkingSet(_CONVERSATIONS_MAX)
    ordered = sorted(samples, key=lambda sample: sample.t_intended)
    heard = 0
    for period in periods:
        while heard < len(ordered) and ordered[heard].t_intended * time_scale < period.end_s:
            sample = ordered[heard]
            at_s = sample.t_intended * time_scale
            live.touch((sample.conversation, sample.agent), "", sample.planned_tokens, at_s)
            heard += 1
        period.working_set = {w: live.tokens(w, period.end_s) for w in WINDOWS_S}
