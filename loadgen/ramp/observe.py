"""A sample as controllers and service levels see it, in engine seconds; and goodput."""

from collections.abc import Sequence

from loadgen.ramp.slo import Observed, Slo
from loadgen.sample import Sample


def observed(sample: Sample, time_scale: float, *, ended: bool) -> Observed:
    """As controllers see it, in engine seconds. One in flight may be between two attempts."""
    return Observed(
        conversation=sample.conversation,
        due_s=sample.t_intended * time_scale,
        first_token_s=_scaled(sample.t_first_token, time_scale),
        end_s=_scaled(sample.t_end, time_scale) if ended else None,
        itl_s=sample.itl_s,
        failed=ended and not sample.ok,
        cut_s=_scaled(sample.t_end, time_scale) if sample.cut else None,
        throttled=not ended and sample.status in (429, 503),
        uncached_tokens=max(0, sample.planned_tokens - sample.bound_tokens),
    )


def counts(sample: Sample) -> bool:
    """How long a slow reader takes is no figure of the endpoint, unless it fails."""
    return sample.fault != "slow" or not (sample.ok or sample.cut)


def attainment(
    samples: Sequence[Sample],
    slo: Slo,
    time_scale: float,
    until_s: float,
    lasted_s: float | None = None,
) -> dict[str, object]:
    """Share of requests within the SLO and how many of them a second of engine time. Failures
    are misses; what was cut off, at the end or by its client, is one if it was late by then. Slow
    readers are left out unless they failed. The run ended `until_s` real seconds after the start
    that samples count from; they are those of its last `lasted_s` (None: of all of it)."""
    lasted_s = until_s if lasted_s is None else lasted_s
    met = missed = 0
    for sample in samples:
        if not counts(sample):
            continue
        request = observed(sample, time_scale, ended=not sample.cut)
        judged = slo.met(request, until_s * time_scale)
        met += judged is True
        missed += judged is False
    return {
        "limits": [str(limit) for limit in slo.limits],
        "met": met,
        "missed": missed,
        "attainment": met / (met + missed) if met + missed else None,
        "goodput_per_s": met / (lasted_s * time_scale) if lasted_s > 0 else None,
    }


def _scaled(seconds: float | None, time_scale: float) -> float | None:
    return None if seconds is None else seconds * time_scale
