from loadgen.output.timeline import quantiles, timeline
from tests.support.samples import sample

SAMPLES = [
    sample(),
    sample(conversation="d-1-0", t_intended=8.0, t_first_token=12.0, t_end=25.0, planned_tokens=7),
    sample(t_intended=11.0, t_first_token=None, t_end=11.5, error="timeout"),
    sample(t_intended=29.0, t_first_token=None, t_end=None, error="cancelled"),
]


def test_everything_counts_in_the_period_it_happened_in() -> None:
    first, second, third = timeline(SAMPLES, 1.0, 30.0, 10.0)
    assert [p.sent for p in (first, second, third)] == [2, 1, 1]
    assert [p.ended for p in (first, second, third)] == [1, 1, 1]
    assert [p.failed for p in (first, second, third)] == [0, 1, 0]
    assert [len(p.ttfts_s) for p in (first, second, third)] == [1, 1, 0]
    # The last one was cut when the run ended: nobody had answered it.
    assert [p.in_flight for p in (first, second, third)] == [1, 1, 1]
    assert [p.output_tokens for p in (first, second, third)] == [50, 50, 50]
    assert (first.prompt_tokens, first.cached_tokens, first.by_replica) == (1000, 800, {"r1": 1})
    assert third.working_set[900.0] == 1007
    assert third.users == {"c-1-0"}


def test_engine_seconds() -> None:
    periods = timeline(SAMPLES, 10.0, 30.0, 100.0)
    assert [p.sent for p in periods] == [2, 1, 1]
    assert periods[-1].end_s == 300.0


def test_a_run_without_requests_has_a_period() -> None:
    assert [p.sent for p in timeline([], 1.0, 0.0, 10.0)] == [0]


def test_quantiles_of_nothing() -> None:
    assert quantiles([], 0.5, 0.9) == [None, None]
    assert quantiles([3.0, 1.0, 2.0], 0.5) == [2.0]


def test_what_hangs_until_the_run_ends_is_in_flight_all_along() -> None:
    hangs = [sample(t_intended=2.0, t_first_token=None, t_end=29.9, error="cancelled")] * 3
    assert [p.in_flight for p in timeline(hangs, 1.0, 30.0, 10.0)] == [3, 3, 0]


def test_nobody_said_what_was_cached() -> None:
    silent = timeline([sample(cached_tokens=None)], 1.0, 10.0, 10.0)
    assert [p.hit_rate for p in silent] == [None]
    # An engine leaves the field out when nothing was cached.
    told = timeline([sample(cached_tokens=None), sample()], 1.0, 10.0, 10.0)
    assert [p.hit_rate for p in told] == [0.4]


def test_the_times_of_slow_readers_are_left_out() -> None:
    (only,) = timeline([sample(), sample(fault="slow")], 1.0, 10.0, 10.0)
    assert (len(only.ttfts_s), len(only.itls_s), only.ended) == (1, 1, 2)
