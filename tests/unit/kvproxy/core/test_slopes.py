from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.blocks import extend
from kvproxy.core.items import KINDS, Kind
from kvproxy.core.segments import segment
from kvproxy.core.slopes import Slopes, measure
from kvproxy.core.types import Chain
from tests.support.makers import BLOCK_BYTES, make_chain

ROLES = {
    "system": Kind.SYSTEM,
    "tools": Kind.TOOL,
    "user": Kind.USER,
    "assistant": Kind.ASSISTANT,
    "tool": Kind.RESULT,
}
PARTS = st.lists(st.tuples(st.sampled_from(sorted(ROLES)), st.integers(1, 300)), max_size=12)


def chain_of(parts: list[tuple[str, int]]) -> Chain:
    chain = Chain()
    extend(chain, [segment(role, [b"x" * size]) for role, size in parts], BLOCK_BYTES, 500)
    return chain


def naive(parts: list[tuple[str, int]]) -> list[float]:
    found = [0.0] * (KINDS + 3)
    for index, (role, size) in enumerate(parts):
        found[ROLES[role]] += size
        found[KINDS + (role == "tools")] += 1
        found[KINDS + 2] += role == "tools" and (not index or parts[index - 1][0] != "tools")
    return found


@given(PARTS)
def test_a_whole_prompt_is_measured_by_kind(parts: list[tuple[str, int]]) -> None:
    chain = chain_of(parts)
    assert measure(chain, 0, len(chain)) == naive(parts)


@given(PARTS, st.data())
def test_measures_of_stretches_add_up(parts: list[tuple[str, int]], data: st.DataObject) -> None:
    chain = chain_of(parts)
    cut = data.draw(st.integers(0, len(chain)))
    first, second = measure(chain, 0, cut), measure(chain, cut, len(chain))
    added = [one + other for one, other in zip(first, second, strict=True)]
    assert added == measure(chain, 0, len(chain))


@given(PARTS)
def test_tokens_along_a_chain_add_up_to_those_of_the_whole(parts: list[tuple[str, int]]) -> None:
    chain, slopes = chain_of(parts), Slopes()
    slopes.learn(naive([("tools", 300), ("user", 80)]), 200.0)
    for start in range(len(chain) + 1):
        whole = slopes.tokens(measure(chain, start, len(chain)))
        found = slopes.along(chain, start, len(chain))
        assert len(found) == len(chain) - start
        assert not found or found[-1] == pytest.approx(whole)


@given(PARTS, st.data())
def test_how_far_so_many_tokens_reach_along_a_chain(
    parts: list[tuple[str, int]], data: st.DataObject
) -> None:
    chain, slopes = chain_of(parts), Slopes()
    slopes.learn(naive([("tools", 300), ("user", 80)]), 200.0)
    start = data.draw(st.integers(0, len(chain)))
    end = data.draw(st.integers(start, len(chain)))
    along = [30.0, *slopes.along(chain, start, end, 30.0)]
    for limit in (0.0, 31.0, *[tokens + off for tokens in along for off in (-0.01, 0.01)]):
        # Forwards and backwards the same place differs in its last digit.
        if limit <= along[-1] and all(abs(limit - tokens) > 1e-6 for tokens in along):
            reached = max(1, bisect_left(along, limit)) - 1
            expected = start + reached, pytest.approx(along[reached])
            assert slopes.reach(chain, start, end, along[-1], limit) == expected


def test_prompts_that_do_not_say_what_they_consist_of_have_bytes_all_the_same() -> None:
    chain = make_chain(b"x" * 400)
    del chain.items[:]
    assert Slopes().tokens(measure(chain, 0, len(chain))) == 0.25 * 400 + 4


def test_kinds_are_learned_apart() -> None:
    """Schemas cost more than prose, and the template introduces tools with 50 tokens."""
    slopes = Slopes()

    def tokens(parts: list[tuple[str, int]]) -> float:
        found = naive(parts)
        bytes_of = 0.4 * found[Kind.TOOL] + 0.2 * (sum(found[:KINDS]) - found[Kind.TOOL])
        return bytes_of + 5 * found[KINDS] + 9 * found[KINDS + 1] + 50 * found[KINDS + 2]

    for turn in range(200):
        tools = [("tools", 100 + 150 * (turn % 11))] * (turn % 5)
        parts = [("system", 900 + 40 * (turn % 9)), *tools]
        parts += [("user", 100 + 300 * (turn % 7)), ("assistant", 50 + turn % 40)]
        slopes.learn(naive(parts), tokens(parts))
    for parts in ([("user", 2000)], [("tools", 2000)] * 3, [("system", 4000), ("tools", 500)]):
        assert slopes.tokens(naive(parts)) == pytest.approx(tokens(parts), rel=0.02, abs=16)


def test_a_change_is_followed() -> None:
    slopes = Slopes()
    for rate in (0.2, 0.3):
        for turn in range(400):
            size = 500 + 100 * (turn % 10)
            slopes.learn(naive([("user", size)]), rate * size)
        assert slopes.tokens(naive([("user", 1000)])) == pytest.approx(1000 * rate, rel=0.05)


@given(st.lists(st.tuples(PARTS, st.integers(-1000, 10**6)), max_size=40), PARTS)
def test_whatever_is_reported_no_text_has_fewer_tokens_than_none(
    seen: list[tuple[list[tuple[str, int]], int]], asked: list[tuple[str, int]]
) -> None:
    slopes = Slopes()
    for parts, tokens in seen:
        slopes.learn(naive(parts), tokens)
    assert slopes.tokens(naive(asked)) >= 0
    assert all(row[index] >= 0 for index, row in enumerate(slopes._doubt))
