import pytest

from loadgen.ramp.observe import attainment, observed
from loadgen.ramp.slo import Limit, Slo
from loadgen.sample import Sample


def sample(**fields: object) -> Sample:
    return Sample("c", "t", 0, **fields)  # type: ignore[arg-type]


DONE = sample(
    t_intended=1.0, t_first_token=1.5, t_end=2.0, planned_tokens=100, bound_tokens=64, itl_s=0.1
)


def test_real_seconds_become_engine_seconds() -> None:
    seen = observed(DONE, 10.0, ended=True)
    assert (seen.due_s, seen.first_token_s, seen.end_s) == (10.0, 15.0, 20.0)
    assert (seen.ttft_s, seen.itl_s, seen.uncached_tokens) == (5.0, 0.1, 36)


def test_between_two_attempts_a_request_is_throttled_and_neither_ended_nor_failed() -> None:
    seen = observed(sample(t_end=2.0, status=429, error="rate_limited"), 1.0, ended=False)
    assert (seen.end_s, seen.failed, seen.throttled) == (None, False, True)
    assert not observed(DONE, 1.0, ended=True).throttled


def test_goodput_counts_failures_and_what_was_late_when_it_was_cut() -> None:
    slo = Slo((Limit("ttft_s", 6.0),))
    samples = [
        DONE,
        DONE,
        sample(t_intended=1.0, t_end=1.1, error="http_5xx"),
        sample(t_intended=1.0, error="cancelled"),
        sample(t_intended=3.9, error="cancelled"),
    ]
    found = attainment(samples, slo, 10.0, 4.0)
    assert (found["met"], found["missed"]) == (2, 2)
    assert found["attainment"] == 0.5
    assert found["goodput_per_s"] == pytest.approx(2 / 40)
    assert attainment([], slo, 1.0, 0.0)["attainment"] is None


def test_a_slow_reader_is_no_miss_of_the_endpoint_unless_it_fails() -> None:
    slo = Slo((Limit("e2e_s", 1.0),))
    slow = sample(t_intended=0.0, t_first_token=0.1, t_end=50.0, fault="slow")
    failed = sample(t_intended=0.0, t_end=0.1, fault="slow", error="http_5xx")
    found = attainment([slow, failed], slo, 1.0, 60.0)
    assert (found["met"], found["missed"]) == (0, 1)


def test_who_gave_up_late_was_missed_and_who_gave_up_soon_was_not() -> None:
    slo = Slo((Limit("ttft_s", 2.0),))
    soon, late = (sample(t_intended=1.0, t_end=end, error="aborted") for end in (2.0, 4.0))
    assert [slo.met(observed(s, 1.0, ended=False), 99.0) for s in (soon, late)] == [None, False]


def test_goodput_is_over_the_time_that_the_samples_are_of() -> None:
    slo = Slo((Limit("ttft_s", 6.0),))
    assert attainment([DONE], slo, 10.0, 4.0, 2.0)["goodput_per_s"] == pytest.approx(1 / 20)
