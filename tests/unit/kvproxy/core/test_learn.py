import pytest

from kvproxy.core.learn import PrefillRate


def test_the_prior_holds_until_something_is_seen() -> None:
    rate = PrefillRate(10_000, 0.1)
    assert rate.prefill_s(5000) == 0.5


@pytest.mark.parametrize(
    ("miss", "ttft_s", "alone"), [(5000, 5.0, False), (511, 5.0, True), (5000, 0.1, True)]
)
def test_what_is_not_clean_teaches_nothing(miss: int, ttft_s: float, alone: bool) -> None:
    rate = PrefillRate(10_000, 0.1)
    rate.observe(miss, ttft_s, alone)
    assert rate.s_per_tok == 1e-4


def test_the_median_of_recent_figures_shrugs_at_outliers() -> None:
    rate = PrefillRate(10_000, 0.1)
    for _ in range(5):
        rate.observe(1000, 0.6, True)
        rate.observe(1000, 0.6, True)
        rate.observe(1000, 60.0, True)
    assert rate.prefill_s(1000) == pytest.approx(0.5)


def test_old_figures_are_forgotten() -> None:
    rate = PrefillRate(10_000, 0.0)
    for _ in range(20):
        rate.observe(1000, 1.0, True)
    for _ in range(20):
        rate.observe(1000, 3.0, True)
    assert rate.prefill_s(1000) == pytest.approx(3.0)


def test_a_replica_that_computes_nothing_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        PrefillRate(0, 0.1)
