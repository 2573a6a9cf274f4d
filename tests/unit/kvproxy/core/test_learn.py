import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_figure_of_more_cached_than_there_is_teaches_nothing() -> None:
    rate = PrefillRate(10_000, 0.1)
    rate.observe(-5000, 1.0, True, 1000)
    assert (rate.base_s, rate.based, rate.news) == (0.1, False, False)


def test_a_base_taken_from_others_keeps_no_faster_one_from_being_measured() -> None:
    rate = PrefillRate(10_000, 0.02)
    rate.presume((0.0, 1e-4, 0.0), 0.59)
    for _ in range(5):
        rate.observe(4000, 0.3, True)
    assert rate.measured
    assert rate.prefill_s(4000) == pytest.approx(0.28)


def test_the_median_of_recent_figures_shrugs_at_outliers() -> None:
    rate = PrefillRate(10_000, 0.1)
    for _ in range(5):
        rate.observe(1000, 0.6, True)
        rate.observe(1000, 0.6, True)
        rate.observe(1000, 60.0, True)
    assert rate.prefill_s(1000) == pytest.approx(0.5)


def test_engines_that_say_nothing_are_guessed_by_their_slow_answers() -> None:
    rate = PrefillRate(10_000, 0.1)
    for _ in range(10):
        rate.guess(100_000, 2.0, True)
        # Cached after all, not alone, and too short to tell.
        rate.guess(100_000, 0.05, True)
        rate.guess(100_000, 50.0, False)
        rate.guess(400, 50.0, True)
    assert rate.prefill_s(50_000) == pytest.approx(1.0)
    rate.observe(100_000, 4.1, True)
    rate.guess(100_000, 2.0, True)
    assert rate.prefill_s(50_000) == pytest.approx(2.0), "what is said counts alone"


def test_a_measured_prior_stays_where_nothing_is_said() -> None:
    rate = PrefillRate(10_000, 0.1, 1e-9)
    rate.guess(100_000, 2.0, True)
    assert rate.s_per_tok == 1e-4


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


def true_s(miss: int, prompt: int) -> float:
    return 0.05 + miss * (1e-4 + 2e-9 * (prompt - miss / 2))


def test_attention_over_a_long_context_is_learned() -> None:
    rate = PrefillRate(20_000, 0.05)
    for index in range(31):
        prompt = 2000 + 5000 * (index % 11)
        rate.observe(2000, true_s(2000, prompt), True, prompt)
    for miss, prompt in ((1000, 8000), (2000, 40_000), (30_000, 50_000)):
        expected = true_s(miss, prompt) - 0.05
        assert rate.prefill_s(miss, prompt) == pytest.approx(expected, rel=0.02)


def test_short_prefills_teach_the_base() -> None:
    rate = PrefillRate(10_000, 0.02)
    for _ in range(5):
        rate.observe(100, 0.11, True)
    assert rate.base_s == pytest.approx(0.10)
    assert rate.prefill_s(1000) == pytest.approx(0.1)


def test_an_answer_in_no_time_is_not_an_infinite_rate() -> None:
    rate = PrefillRate(10_000, 0.0)
    rate.observe(512, 5e-324, True)
    assert rate.s_per_tok > 0


@given(
    st.lists(
        st.tuples(st.integers(0, 50_000), st.floats(0, 100), st.integers(0, 100_000)), max_size=50
    )
)
def test_rates_stay_positive_whatever_is_seen(seen: list[tuple[int, float, int]]) -> None:
    rate = PrefillRate(10_000, 0.02)
    for miss, ttft_s, prompt in seen:
        rate.observe(miss, ttft_s, True, prompt)
        assert rate.s_per_tok > 0
        assert rate.s_per_tok2 >= 0
        assert rate.base_s >= 0
        assert rate.prefill_s(1, 100_000) > 0
