from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.disagg.choice import Choice, Mode, Terms, choose
from kvproxy.core.disagg.connectors import Connector, Peer
from kvproxy.core.replica import Replica
from kvproxy.core.score import Asked, Match, Weights, score
from tests.support import makers

AUTO = Terms(Connector.NIXL, min_tokens=1000, margin_s=0.1)
NOW, TOK_S = 100.0, 100_000.0


def asked(prompt_tokens: int = 50_000, home: str | None = None) -> Asked:
    return Asked(prompt_tokens, home, Weights(), NOW, lambda idle_s: 0.5)


def make_replica(name: str) -> Replica:
    replica = makers.make_replica(name)
    replica.peer = Peer(name, 1)
    return replica


def owing(replica: Replica, seconds: float) -> Replica:
    if seconds:
        replica.load.reserve(replica.id, seconds, NOW)
    return replica


def decided(
    candidates: Sequence[tuple[Replica, Match]],
    prefillers: Sequence[tuple[Replica, Match]],
    terms: Terms = AUTO,
    ask: Asked | None = None,
) -> Choice:
    """`whole` is the first candidate."""
    ask = ask or asked()
    whole = Choice(0, score(ask, *candidates[0]), None)
    return choose(
        ask,
        candidates=[replica for replica, _ in candidates],
        matches=[match for _, match in candidates],
        prefillers=prefillers,
        whole=whole,
        terms=terms,
        tok_s=TOK_S,
    )


def test_an_idle_prefiller_takes_the_prompt_of_a_busy_replica() -> None:
    here, there = owing(make_replica("d"), 8.0), make_replica("p")
    choice = decided([(here, Match.NONE)], [(there, Match.NONE)])
    assert choice.remote is not None
    assert choice.remote.replica is there
    assert choice.remote.tokens == 50_000
    assert choice.remote.prefill_s == pytest.approx(5.0)
    # Its own queue (8 s) is longer than the other's work and the wire (5 s + 0.5 s).
    assert choice.score.ttft_s == pytest.approx(8.0, abs=0.01)


def test_answers_under_way_are_worth_sparing() -> None:
    here, there = make_replica("d"), make_replica("p")
    assert decided([(here, Match.NONE)], [(there, Match.NONE)]).remote is None
    for _ in range(10):
        here.load.first_token(here.load.reserve("d", 0.0, NOW), NOW)
    choice = decided([(here, Match.NONE)], [(there, Match.NONE)])
    assert choice.remote is not None
    assert choice.score.delay_s < 0.01


def test_a_short_miss_stays_even_when_told_always() -> None:
    here, there = owing(make_replica("d"), 8.0), make_replica("p")
    held = Match(700, 49_500)
    for mode in (Mode.AUTO, Mode.ALWAYS):
        terms = replace(AUTO, mode=mode)
        assert decided([(here, held)], [(there, Match.NONE)], terms).remote is None


def test_always_and_never() -> None:
    here, there = make_replica("d"), owing(make_replica("p"), 30.0)
    candidates, prefillers = [(here, Match.NONE)], [(there, Match.NONE)]
    assert decided(candidates, prefillers, replace(AUTO, mode=Mode.ALWAYS)).remote is not None
    assert decided(candidates, prefillers).remote is None
    here = owing(here, 100.0)
    assert decided(candidates, prefillers, replace(AUTO, mode=Mode.NEVER)).remote is None


def test_nobody_computes_for_itself() -> None:
    alone = owing(make_replica("d"), 8.0)
    assert decided([(alone, Match.NONE)], [(alone, Match.NONE)]).remote is None


def test_what_the_answering_replica_holds_does_not_travel() -> None:
    here, there = make_replica("d"), make_replica("p")
    for _ in range(10):
        here.load.first_token(here.load.reserve("d", 0.0, NOW), NOW)
    choice = decided([(here, Match(100, 30_000))], [(there, Match(100, 45_000))])
    assert choice.remote is not None
    assert choice.remote.tokens == 20_000
    assert choice.remote.prefill_s == pytest.approx(0.5)


def test_a_pull_takes_the_longest_prefix_that_another_holds() -> None:
    pulls = replace(AUTO, connector=Connector.OFFLOADING)
    warm, cool = owing(make_replica("warm"), 30.0), make_replica("cool")
    idle = make_replica("idle")
    held = [(warm, Match(700, 48_000)), (cool, Match(100, 5_000))]
    choice = decided([held[0], held[1], (idle, Match.NONE)], held, pulls)
    assert choice.remote is not None
    assert choice.remote.pulls
    assert choice.remote.replica is warm
    assert choice.candidate == 1, "it holds some of it already"
    assert choice.remote.tokens == 43_000
    assert choice.score.load_s == pytest.approx(0.43)
    assert choice.score.prefill_s == pytest.approx(0.2)


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 50_000)), min_size=1, max_size=5),
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 50_000)), max_size=4),
)
def test_it_is_never_dearer_than_the_whole(
    fleet: list[tuple[float, int]], helpers: list[tuple[float, int]]
) -> None:
    candidates = [
        (owing(make_replica(f"d{at}"), owed), Match(1, held))
        for at, (owed, held) in enumerate(fleet)
    ]
    prefillers = [
        (owing(make_replica(f"p{at}"), owed), Match(1, held))
        for at, (owed, held) in enumerate(helpers)
    ]
    ask = asked()
    whole = score(ask, *candidates[0])
    choice = decided(candidates, prefillers, ask=ask)
    assert choice.score.total_s <= whole.total_s
    if choice.remote is not None:
        assert choice.score.total_s + AUTO.margin_s < whole.total_s
        assert choice.remote.tokens > 0
