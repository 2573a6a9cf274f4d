from collections import Counter

import pytest

from kvproxy.core.presumed_rates import presume_rates
from kvproxy.core.replica import Replica
from kvproxy.core.router import Router
from kvproxy.core.types import Identity, Usage
from tests.support.makers import make_chain, make_replica, make_router

PRIOR = 1e-4


def first_turns(router: Router, count: int, tok_s: float, *, cached: int | None = 0) -> list[str]:
    """New conversations of 3200 tokens, one after the other, on engines of `tok_s`."""
    went, now = [], 0.0
    for number in range(count):
        chain = make_chain(f"{number:64}", *["x" * 64] * 199)
        placement = router.place(Identity("t", "m", f"s{number}"), chain, now)
        now += 3200 / tok_s
        router.first_token(placement, now)
        now += 0.1
        router.finish(placement, Usage(3200, 5, cached), now)
        went.append(placement.replica.id)
    return went


def rates(replicas: list[Replica]) -> list[float]:
    return [replica.rate.s_per_tok for replica in replicas]


@pytest.mark.parametrize("tok_s", [1_000.0, 10_000.0, 200_000.0])
@pytest.mark.parametrize("cached", [0, None])
def test_the_first_to_be_measured_gets_neither_all_that_is_new_nor_none(
    tok_s: float, cached: int | None
) -> None:
    went = Counter(first_turns(make_router(4), 40, tok_s, cached=cached))
    assert sorted(went) == ["r0", "r1", "r2", "r3"]
    assert max(went.values()) <= 16, went


def test_unmeasured_ones_are_as_the_middle_one_of_those_measured() -> None:
    replicas = [make_replica(f"r{index}") for index in range(5)]
    for replica, ttft_s in zip(replicas, (1.0, 4.0, 2.0), strict=False):
        replica.rate.observe(10_000, ttft_s, True, 10_000)
    presume_rates(replicas)
    assert rates(replicas) == pytest.approx([1e-4, 4e-4, 2e-4, 2e-4, 2e-4])
    replicas[3].rate.observe(10_000, 3.0, True, 10_000)
    presume_rates(replicas)
    assert rates(replicas)[3:] == pytest.approx([3e-4, 2e-4]), "of two the faster one"


def test_what_any_prefill_takes_is_presumed_too() -> None:
    one, other = make_replica("one"), make_replica("other")
    one.rate.observe(100, 0.5, True, 20_000)
    presume_rates([one, other])
    assert other.rate.base_s == one.rate.base_s == pytest.approx(0.49)
    assert other.rate.s_per_tok == PRIOR


def test_a_slope_comes_with_its_rate_and_own_figures_go_on_from_there() -> None:
    one, other = make_replica("one"), make_replica("other")
    for index in range(31):
        prompt = 2000 + 5000 * (index % 11)
        one.rate.observe(2000, 2000 * (1e-4 + 2e-9 * (prompt - 1000)), True, prompt)
    presume_rates([one, other])
    expected = one.rate.prefill_s(5000, 90_000)
    assert other.rate.prefill_s(5000, 90_000) == expected
    # From an engine that does not say what it found: no slope is known of it.
    other.rate.guess(20_000, 8.0, True)
    presume_rates([one, other])
    assert other.rate.prefill_s(20_000, 90_000) == pytest.approx(8.0)


def test_other_models_say_nothing() -> None:
    served = (("small",), ("large",), ("large", "adapter"), ("adapter",), ("other",))
    replicas = [make_replica(f"r{n}", models=models) for n, models in enumerate(served)]
    replicas[0].rate.observe(10_000, 0.1, True, 10_000)
    presume_rates(replicas)
    assert rates(replicas)[1:] == [PRIOR] * 4
    replicas[1].rate.observe(10_000, 5.0, True, 10_000)
    presume_rates(replicas)
    assert rates(replicas)[2:] == [pytest.approx(5e-4), PRIOR, PRIOR]


def test_who_serves_another_model_after_all_is_presumed_anew() -> None:
    """Until it was asked for its models it may serve any."""
    known, late = make_replica("known", models=("small",)), make_replica("late")
    known.rate.observe(10_000, 0.1, True, 10_000)
    presume_rates([known, late])
    assert late.rate.s_per_tok == pytest.approx(1e-5)
    late.models = ("large",)
    presume_rates([known, late])
    assert late.rate.s_per_tok == PRIOR


def test_news_is_what_changes_much() -> None:
    """Everybody is looked at for it, so it must be rare."""
    rate, news = make_replica().rate, []
    for number in range(1, 101):
        rate.observe(10_000, 1.0, True, 10_000)
        if rate.news:
            news.append(number)
        rate.news = False
    assert news == [1, 4, 31, 62, 93]
