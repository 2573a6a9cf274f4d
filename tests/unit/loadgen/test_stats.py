import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.sample import Sample
from loadgen.stats import answers, arm, fidelity, hit_rates, quantile, replicas, spread, summarise


def sample(**fields: object) -> Sample:
    return Sample("c", "t", 0, **fields)  # type: ignore[arg-type]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
def test_quantiles_are_those_of_the_standard_library(values: list[float]) -> None:
    ordered = sorted(values)
    expected = statistics.quantiles(ordered, n=20, method="inclusive")
    assert quantile(ordered, 0.95) == pytest.approx(expected[-1])
    assert quantile(ordered, 0.5) == pytest.approx(statistics.median(ordered))
    assert quantile(ordered, 1.0) == ordered[-1]


def test_spread_of_nothing_is_unknown() -> None:
    assert spread([]) == dict.fromkeys(("mean", "p50", "p95", "p99", "max")) | {"count": 0}


def test_hit_rates_are_sums_over_sums() -> None:
    samples = [
        sample(prompt_tokens=100, cached_tokens=80, bound_tokens=96, predicted_cached_tokens=64),
        sample(prompt_tokens=900, cached_tokens=None, bound_tokens=304, predicted_cached_tokens=0),
        sample(error="timeout"),
    ]
    rates = hit_rates(samples, 16)
    assert rates["hit_rate_reported"] == 80 / 1000
    assert rates["hit_rate_bound"] == 400 / 1000
    assert rates["hit_rate_predicted"] == 64 / 1000
    assert rates["predicted_within_block"] == 1.0


def test_what_nobody_states_is_unknown_not_zero() -> None:
    rates = hit_rates([sample(prompt_tokens=100, bound_tokens=16)], 16)
    assert rates["hit_rate_reported"] is None
    assert rates["hit_rate_predicted"] is None
    assert rates["hit_rate_bound"] == 0.16


def test_errors_stay_in_the_denominator_and_cut_requests_apart() -> None:
    summary = summarise(
        [
            sample(ttft_s=1.0, prompt_tokens=10, cached_tokens=0),
            sample(ttft_s=3.0, prompt_tokens=10, cached_tokens=0, attempts=3),
            sample(error="timeout"),
            sample(error="http_5xx", ttft_s=99.0),
            sample(error="cancelled"),
        ],
        16,
    )
    assert (summary["requests"], summary["ok"], summary["cancelled"]) == (4, 2, 1)
    assert summary["errors"] == {"http_5xx": 1, "timeout": 1}
    assert summary["error_rate"] == 0.5
    assert summary["retries"] == 2
    assert summary["ttft_mean_s"] == 2.0
    assert summary["itl_p95_s"] is None


def test_fidelity_compares_with_the_trace() -> None:
    samples = [sample(prompt_tokens=100, trace_tokens=n) for n in (100, 100, 100, 104)]
    assert fidelity(samples) == {
        "exact": 0.75, "off_p50": 0.0, "off_p99": pytest.approx(3.88), "off_max": 4,
    }  # fmt: skip


def test_replicas_add_up() -> None:
    samples = [sample(replica=name, prompt_tokens=10, cached_tokens=4) for name in "bab"]
    assert replicas([*samples, sample()]) == {
        "a": {"requests": 1, "prompt_tokens": 10, "cached_tokens": 4},
        "b": {"requests": 2, "prompt_tokens": 20, "cached_tokens": 8},
    }


def test_an_arm_has_the_shape_of_comparisons() -> None:
    made = arm("seconds", summarise([sample(ttft_s=1.0, prompt_tokens=10)], 16))
    needed = {
        "policy", "requests", "hit_rate_predicted", "hit_rate_reported", "hit_rate_bound",
        "ttft_mean_s", "ttft_p50_s", "ttft_p95_s",
    }  # fmt: skip
    assert needed <= made.keys()
    assert made["policy"] == "seconds"


def test_no_samples_at_all() -> None:
    summary = summarise([], 16)
    assert summary["requests"] == 0
    assert summary["error_rate"] is None


def test_a_wait_that_outlasted_the_quantiles_is_counted() -> None:
    samples = [
        *(sample(ttft_s=float(n)) for n in range(1, 22)),
        sample(error="cancelled", silent_s=30.0),
        sample(error="timeout", silent_s=25.0),
        sample(error="http_5xx", silent_s=0.5),
    ]
    summary = summarise(samples, 16)
    assert (summary["ttft_count"], summary["ttft_p95_s"]) == (21, 20.0)
    assert summary["silent"] == {"beyond_p95": 2, "max_s": 30.0}
    nobody = summarise([sample(error="cancelled", silent_s=3.0)], 16)
    assert (nobody["ttft_count"], nobody["silent"]) == (0, {"beyond_p95": 1, "max_s": 3.0})


def test_answers_are_held_against_what_was_asked() -> None:
    samples = [sample(output_tokens_asked=100, completion_tokens=n) for n in (100, 50, None)]
    assert answers(samples) == {"exact": 0.5, "tokens": 0.75}
    assert answers([]) == {"exact": None, "tokens": None}


def test_replicas_that_say_nothing_of_their_cache_had_not_nothing_cached() -> None:
    assert replicas([sample(replica="a", prompt_tokens=10)])["a"]["cached_tokens"] is None


def test_more_hits_than_a_run_can_have_left_are_told() -> None:
    warm = sample(prompt_tokens=1000, cached_tokens=900, bound_tokens=880)
    assert hit_rates([warm], 16)["hit_rate_beyond_bound"]
    assert not hit_rates([sample(prompt_tokens=1000, cached_tokens=888, bound_tokens=880)], 16)[
        "hit_rate_beyond_bound"
    ]
    assert not hit_rates([sample(prompt_tokens=1000, bound_tokens=0)], 16)["hit_rate_beyond_bound"]


def test_the_bound_is_in_the_engines_tokens() -> None:
    """A tokeniser that is not known makes a fifth more of every prompt."""
    other = sample(prompt_tokens=1200, planned_tokens=1000, bound_tokens=900, cached_tokens=1060)
    rates = hit_rates([other], 16)
    assert rates["hit_rate_bound"] == pytest.approx(0.9)
    assert not rates["hit_rate_beyond_bound"]
