"""What is learned of hits in the middle of a prompt is in test_router.py."""

import pytest
from msgspec.structs import replace

from kvproxy.core.disagg.choice import Remote
from kvproxy.core.lessons import learn
from kvproxy.core.placement import Placement
from kvproxy.core.router import Router
from kvproxy.core.score import Match
from kvproxy.core.types import Identity, Learned, Usage
from tests.support.makers import make_chain, make_replica, make_router

CHAIN = make_chain(*["x" * 64] * 200)


def begun(router: Router, ttft_s: float = 2.0) -> Placement:
    """A turn that has had its first token."""
    placement = router.place(Identity("t", "m", "s"), CHAIN, 10.0)
    router.first_token(placement, 10.0 + ttft_s)
    return placement


def test_counts_and_rates_are_learned_and_passed_on() -> None:
    router = make_router(1)
    told: list[Learned] = []
    learn(router.ruler, router.holdings.echo_rate, begun(router), Usage(3200, 5, 0), told.append)
    assert router.ruler.tokens_at(CHAIN, len(CHAIN), "m") == 3200
    assert router.replicas[0].rate.s_per_tok == 2.0 / 3200
    assert told == [Learned("r0", CHAIN.end, 3200, 3200, 2.0)]


def test_others_are_not_told_a_time_that_was_shared() -> None:
    router = make_router(1)
    router.replicas[0].load.reserve("r0", 1.0, 0.0)
    told: list[Learned] = []
    learn(router.ruler, router.holdings.echo_rate, begun(router), Usage(3200, 5, 0), told.append)
    assert told == [Learned("r0", CHAIN.end, 3200, 3200, 0.0)]


def test_more_that_was_cached_than_was_asked_is_a_prompt_that_was_cached_whole() -> None:
    router = make_router(1)
    told: list[Learned] = []
    placement = begun(router, 0.5)
    learn(router.ruler, router.holdings.echo_rate, placement, Usage(3200, 5, 90_000), told.append)
    assert told[0].miss_tokens == 0
    assert router.replicas[0].rate.base_s == 0.5


def test_without_a_figure_of_what_was_cached_only_counts_are_learned() -> None:
    router = make_router(1)
    told: list[Learned] = []
    placement = begun(router)
    learn(router.ruler, router.holdings.echo_rate, placement, Usage(3200, 5, None), told.append)
    there = Remote(make_replica("p"), Match.NONE, 0.5, 3200, pulls=False)
    fetched = replace(placement, placing=replace(placement.placing, remote=there))
    learn(router.ruler, router.holdings.echo_rate, fetched, Usage(3300, 5, 3200), told.append)
    assert router.ruler.tokens_at(CHAIN, len(CHAIN), "m") == 3300
    assert router.replicas[0].rate.s_per_tok == 1e-4, "as it was"
    assert told == []


def test_what_is_believed_to_be_cached_gives_no_guess() -> None:
    router = make_router(1)
    placement = begun(router)
    router.finish(placement, None, 13.0)
    guessed = router.replicas[0].rate.s_per_tok
    assert guessed == 2.0 / placement.placing.prompt_tokens
    router.finish(begun(router, 0.1), None, 13.0)
    assert router.replicas[0].rate.s_per_tok == guessed


@pytest.mark.parametrize("usage", [None, Usage(3000, 5, None)])
def test_a_stream_of_what_looked_cold_gives_a_guess(usage: Usage | None) -> None:
    router = make_router(1)
    placement = begun(router)
    router.finish(placement, usage, 12.5)
    prompt = usage.prompt_tokens if usage is not None else placement.placing.prompt_tokens
    assert router.replicas[0].rate.s_per_tok == 2.0 / prompt


def test_a_stream_that_is_known_as_one_may_end_at_once() -> None:
    """Fast engines say a few words in less time than an error takes."""
    router = make_router(1)
    placement = begun(router)
    router.finish(placement, None, 12.0, streamed=True)
    assert router.replicas[0].rate.s_per_tok == 2.0 / placement.placing.prompt_tokens


@pytest.mark.parametrize("ttft_s", [0.005, 20.0])
def test_errors_and_whole_answers_give_no_guess(ttft_s: float) -> None:
    """Their first byte is their last: it came at once, or after all was generated."""
    router = make_router(1)
    for _ in range(5):
        router.finish(begun(router, ttft_s), None, 10.0 + ttft_s)
    assert router.replicas[0].rate.s_per_tok == 1e-4, "as it was"
