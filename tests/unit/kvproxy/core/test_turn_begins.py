from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.blocks import extend
from kvproxy.core.event_source import Grown, root
from kvproxy.core.segments import segment
from kvproxy.core.turn_begins import OpenPrompts, Turned, turn_begins
from kvproxy.core.types import Chain

SIZE = 4
# What a template begins every turn with, and a prompt.
TURN, PROMPT = 1, 2
ROLES = ("system", "tools", "user", "assistant", "tool")
Parts = Sequence[tuple[str, int]]
TURNS = st.lists(st.tuples(st.sampled_from(("user", "assistant")), st.integers(1, 60)), min_size=1)


def chain_of(parts: Parts) -> Chain:
    chain = Chain()
    extend(chain, [segment(role, [b"x" * (4 * size)]) for role, size in parts], 64, 1 << 15)
    return chain


def rendered(parts: Parts, *, begun: Sequence[int] = (), merged: bool = False) -> list[int]:
    """Tokens of a template that prints tools with what stands before them."""
    tokens, before = list(begun), ""
    for role, size in parts:
        if not (role == "tools" and before) and not (merged and role == before == "tool"):
            tokens.append(TURN)
        tokens += range(100, 100 + size)
        before = role
    return [*tokens, TURN, 99]


def estimate(chain: Chain, start: int, end: int) -> float:
    at = chain.text_bytes[start - 1] if start else 0
    return (chain.text_bytes[end - 1] - at) / 4


def announced(tokens: Sequence[int], chain: Chain, *, step: int = 2) -> Turned | None:
    """As an engine does, so many blocks at a time."""
    prompts = OpenPrompts()
    prompts.opened("a", chain, "m")
    parent, whole = root(SIZE), len(tokens) // SIZE * SIZE
    for at in range(0, whole, step * SIZE):
        part = tokens[at : min(at + step * SIZE, whole)]
        names = array("Q", range(at + 10, at + 10 + len(part) // SIZE))
        assert prompts.grown(Grown("a", parent, names, part), SIZE) is None
        parent = names[-1]
    found = prompts.finished("a", len(tokens), SIZE)
    assert not len(prompts)
    return found


def told(parts: Parts, tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Text before each turn and tokens there."""
    chain = chain_of(parts)
    turned = announced(tokens, chain)
    assert turned is not None
    return [(chain.text_bytes[b - 1], tokens) for b, tokens in turn_begins(turned, estimate)]


@given(TURNS, st.sampled_from(([], [PROMPT])))
def test_every_turn_is_found_where_it_begins(turns: Parts, begun: list[int]) -> None:
    parts = [("system", 40), ("tools", 30), ("tools", 20), *turns]
    at, expected = len(begun) + 1 + 90, list[tuple[int, int]]()
    text = 4 * 90
    for _, size in turns:
        expected.append((text, at))
        text, at = text + 4 * size, at + size + 1
    assert told(parts, rendered(parts, begun=begun)) == expected[: len(expected)]


def test_results_of_several_calls_may_be_one_turn() -> None:
    parts = [("user", 20), ("assistant", 10), ("tool", 30), ("tool", 40), ("user", 20), ("tool", 9)]
    each, merged = rendered(parts), rendered(parts, merged=True)
    assert [tokens for _, tokens in told(parts, each)] == [21, 32, 63, 104, 125]
    assert [tokens for _, tokens in told(parts, merged)] == [21, 32, 103, 124]


@pytest.mark.parametrize(
    "tokens",
    [
        # No token comes again.
        list(range(200, 400)),
        # One does, but far too often, or where no turn can begin.
        [TURN, 100] * 80,
        [TURN, 100, TURN, *range(200, 400)],
    ],
)
def test_nothing_is_said_where_no_token_begins_turns(tokens: list[int]) -> None:
    assert told([("system", 100), ("user", 50), ("assistant", 50)], tokens) == []


def test_a_prompt_of_which_a_part_was_cached_is_not_looked_at() -> None:
    prompts, chain = OpenPrompts(), chain_of([("user", 9), ("user", 9)])
    prompts.opened("a", chain, "m")
    assert prompts.grown(Grown("a", 77, array("Q", [1]), [1, 2, 3, 4]), SIZE) is None
    assert not len(prompts)
    # Nor one whose announcements come through another proxy, which tells no tokens.
    prompts.opened("b", chain, "m")
    assert prompts.grown(Grown("b", root(SIZE), array("Q", [1])), SIZE) is None
    assert not len(prompts)


def test_the_count_may_be_known_before_the_blocks_are_announced() -> None:
    parts = [("user", 9), ("user", 9)]
    prompts, chain, tokens = OpenPrompts(), chain_of(parts), rendered(parts)
    prompts.opened("a", chain, "m")
    assert prompts.finished("a", len(tokens), SIZE) is None
    names = array("Q", range(len(tokens) // SIZE))
    turned = prompts.grown(Grown("a", root(SIZE), names, tokens[: len(names) * SIZE]), SIZE)
    assert turned == Turned(chain, "m", [[0, 10], [1, 11]])
    assert not len(prompts)


def test_prompts_that_never_end_are_bounded() -> None:
    prompts, chain = OpenPrompts(), chain_of([("user", 9), ("user", 9)])
    for number in range(600):
        prompts.opened(str(number), chain, "m")
    assert len(prompts) == 512
    prompts.finished("599", 0, SIZE)
    assert len(prompts) == 511
    prompts.opened("one", chain_of([("user", 9)]), "m")
    assert len(prompts) == 511


def test_a_token_that_comes_more_often_than_turns_begins_none() -> None:
    chain = chain_of([("system", 40), ("user", 40)])
    prompts = OpenPrompts()
    prompts.opened("a", chain, "m")
    parent = root(SIZE)
    for at in range(3):
        names = array("Q", [at + 10])
        assert prompts.grown(Grown("a", parent, names, array("I", [7] * SIZE)), SIZE) is None
        parent = names[0]
    found = prompts.finished("a", 3 * SIZE, SIZE)
    assert found is None or not any(found.places)
