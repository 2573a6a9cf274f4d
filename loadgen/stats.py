"""From samples to figures: quantiles, hit rates, fidelity, load per replica.

Failures stay in the denominators: `error_rate` is over all requests that ended, and latencies
say over how many requests they were taken (`ttft_count`). Requests cut off at the end of the run,
and those that their own client gave up, count apart; where they, or failures, had waited longer
for a first token than the p95 of those answered, `silent` says how many and how long.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from loadgen.sample import Sample

# Templates and blocks of other sizes make a cache seem this much better than one without limit.
BEYOND_SHARE = 0.01
LATENCIES = ("ttft_s", "ttft_wire_s", "itl_s", "e2e_s")


def quantile(ordered: Sequence[float], q: float) -> float:
    """Linear between the two nearest of an ascending, non-empty sequence."""
    assert ordered, "quantile of nothing"
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def spread(values: Iterable[float]) -> dict[str, float | int | None]:
    """Count, mean, p50, p95, p99 and maximum; None for each where there are no values."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None, "max": None}
    return {
        "count": len(ordered),
        "mean": sum(ordered) / len(ordered),
        "p50": quantile(ordered, 0.50),
        "p95": quantile(ordered, 0.95),
        "p99": quantile(ordered, 0.99),
        "max": ordered[-1],
    }


def summarise(samples: Sequence[Sample], engine_block_size: int) -> dict[str, object]:
    """The figures of a run, as run.json holds them under `summary`."""
    cut = [sample for sample in samples if sample.cut]
    ended = [sample for sample in samples if not sample.cut]
    good = [sample for sample in ended if sample.ok]
    errors = Counter(sample.error for sample in ended if sample.error)
    summary: dict[str, object] = {
        "requests": len(ended),
        "ok": len(good),
        "errors": dict(sorted(errors.items())),
        "last_error": _last_error(ended),
        "error_rate": (len(ended) - len(good)) / len(ended) if ended else None,
        "cancelled": sum(sample.error == "cancelled" for sample in cut),
        "aborted": sum(sample.error == "aborted" for sample in cut),
        "slow_readers": sum(sample.fault == "slow" for sample in ended),
        "retries": sum(sample.attempts - 1 for sample in samples),
        "conversations": len({sample.conversation for sample in samples}),
    }
    for name in LATENCIES:
        # How long a slow reader took is no figure of the endpoint.
        read = [s for s in good if s.fault != "slow"]
        values = [value for s in read if (value := getattr(s, name)) is not None]
        figures = spread(values)
        summary[f"{name[:-2]}_count"] = figures.pop("count")
        summary |= {f"{name[:-2]}_{key}_s": value for key, value in figures.items()}
    summary["silent"] = silent(samples, summary["ttft_p95_s"])
    lags = [sample.lag_s for sample in samples if sample.lag_s is not None]
    summary["client_lag_s"] = spread(lags)
    summary |= hit_rates(good, engine_block_size)
    summary["fidelity"] = fidelity(good)
    summary["answers"] = answers(good)
    summary["replicas"] = replicas(good)
    return summary


def hit_rates(samples: Sequence[Sample], engine_block_size: int) -> dict[str, object]:
    """Cached over prompt tokens: as predicted by the router, as reported by the engines, and
    as an unlimited cache would have had. A rate that nobody stated is None."""
    counted = [sample for sample in samples if sample.prompt_tokens]
    # An engine leaves the field out when nothing was cached; if no answer has it, it is unknown.
    reported = any(sample.cached_tokens is not None for sample in counted)
    foretold = [sample for sample in counted if sample.predicted_cached_tokens is not None]
    within = [
        abs((s.predicted_cached_tokens or 0) - (s.cached_tokens or 0)) <= engine_block_size
        for s in foretold
    ]
    bound = sum(bound_of(sample) for sample in counted)
    prompt = sum(sample.prompt_tokens or 0 for sample in counted)
    cached = sum(sample.cached_tokens or 0 for sample in counted)
    return {
        "prompt_tokens": prompt,
        "cached_tokens": cached if reported else None,
        "completion_tokens": sum(sample.completion_tokens or 0 for sample in counted),
        "hit_rate_predicted": _ratio(
            sum(sample.predicted_cached_tokens or 0 for sample in foretold),
            sum(sample.prompt_tokens or 0 for sample in foretold),
        ),
        "hit_rate_reported": _ratio(cached, prompt) if reported else None,
        "hit_rate_bound": _ratio(bound, prompt),
        # What a run sends cannot be held before, unless one of the same seed sent it.
        "hit_rate_beyond_bound": cached > bound + BEYOND_SHARE * prompt,
        "predicted_within_block": _ratio(sum(within), len(within)) if reported else None,
    }


def bound_of(sample: Sample) -> float:
    """Tokens that an unlimited cache would have had, as the engine counts them: where its
    tokeniser is not known, prompts are not as long as planned, and nor is what they share."""
    if not sample.planned_tokens or sample.prompt_tokens is None:
        return sample.bound_tokens
    return sample.bound_tokens * sample.prompt_tokens / sample.planned_tokens


def silent(samples: Iterable[Sample], ttft_p95_s: object) -> dict[str, float | int | None]:
    """Of requests that never had a first token, those that waited longer than `ttft_p95_s` of the
    others: they are in no quantile, which is therefore too low."""
    least_s = ttft_p95_s if isinstance(ttft_p95_s, float | int) else 0.0
    waits = [s.silent_s for s in samples if s.silent_s is not None and s.silent_s > least_s]
    return {"beyond_p95": len(waits), "max_s": max(waits, default=None)}


def answers(samples: Iterable[Sample]) -> dict[str, float | None]:
    """How many answers were as long as asked, and their tokens over those asked: shorter ones end
    sooner and ask less of the engines."""
    counted = [(s.completion_tokens, s.output_tokens_asked) for s in samples]
    known = [(said, asked) for said, asked in counted if said is not None and asked]
    return {
        "exact": _ratio(sum(said == asked for said, asked in known), len(known)),
        "tokens": _ratio(sum(said for said, _ in known), sum(asked for _, asked in known)),
    }


def fidelity(samples: Sequence[Sample]) -> dict[str, float | int | None]:
    """How far prompts were from the trace, in tokens as the engine counted them."""
    off = sorted(
        abs(sample.prompt_tokens - sample.trace_tokens)
        for sample in samples
        if sample.prompt_tokens is not None
    )
    if not off:
        return {"exact": None, "off_p50": None, "off_p99": None, "off_max": None}
    return {
        "exact": off.count(0) / len(off),
        "off_p50": quantile(off, 0.5),
        "off_p99": quantile(off, 0.99),
        "off_max": off[-1],
    }


def replicas(samples: Sequence[Sample]) -> dict[str, dict[str, int | None]]:
    """Requests and tokens per replica, as far as the endpoint names them; `cached_tokens` None if
    no answer says what was cached."""
    told = any(sample.cached_tokens is not None for sample in samples)
    of: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.replica:
            of.setdefault(sample.replica, []).append(sample)
    return {
        name: {
            "requests": len(served),
            "prompt_tokens": sum(sample.prompt_tokens or 0 for sample in served),
            "cached_tokens": sum(s.cached_tokens or 0 for s in served) if told else None,
        }
        for name, served in sorted(of.items())
    }


def arm(policy: str, summary: dict[str, object]) -> dict[str, object]:
    """One entry of the `arms` list that every comparing command writes."""
    names = ["requests", "hit_rate_predicted", "hit_rate_reported", "hit_rate_bound"]
    for latency in ("ttft", "itl", "e2e"):
        names += [f"{latency}_{key}_s" for key in ("mean", "p50", "p95", "p99")]
    names += ["ttft_count", "silent", "answers", "error_rate", "cancelled", "replicas"]
    return {"policy": policy} | {name: summary[name] for name in names}


def _last_error(samples: Sequence[Sample]) -> str | None:
    """What the endpoint said of the last request that failed."""
    last = next((sample for sample in reversed(samples) if sample.error), None)
    return f"{last.error} {last.error_detail}".strip() if last is not None else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
