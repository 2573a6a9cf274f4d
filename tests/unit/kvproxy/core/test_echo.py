from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.echo import Tap, TapBudget

SIGN = b'"tool_calls"'


def test_chunks_count_from_the_line_with_the_sign_on() -> None:
    budget = TapBudget(1000)
    tap = Tap([b'"other"', SIGN], budget)
    for chunk in (b"a\n", b"b", SIGN[:4], SIGN[4:], b"c\n", b"d"):
        tap.feed(chunk)
    assert budget.used == 4 + len(SIGN)
    assert tap.taken() == b"b" + SIGN + b"c\nd"
    assert (budget.used, tap.taken()) == (0, b"")


def test_an_answer_without_the_sign_costs_nothing() -> None:
    budget = TapBudget(1000)
    tap = Tap([SIGN], budget)
    for _ in range(100):
        tap.feed(b"x" * 100)
    assert budget.used == 0
    assert tap.taken() == b""


def test_without_signs_everything_is_kept() -> None:
    tap = Tap((), TapBudget(1000))
    tap.feed(b"a")
    tap.feed(b"b")
    assert tap.taken() == b"ab"


def test_an_answer_in_one_piece_is_that_piece() -> None:
    tap, chunk = Tap((), TapBudget(100)), b"whole"
    tap.feed(chunk)
    assert tap.taken() is chunk
    assert tap.taken() == b""


def test_what_does_not_fit_is_not_kept_in_part() -> None:
    budget = TapBudget(10)
    first, second = Tap((), budget), Tap((), budget)
    first.feed(b"12345678")
    second.feed(b"123")
    second.feed(b"1")
    assert second.taken() == b""
    assert first.taken() == b"12345678"
    huge = Tap((), TapBudget(2**30))
    for _ in range(40):
        huge.feed(b"x" * 100_000)
    assert huge.taken() == b""


@given(st.lists(st.lists(st.binary(max_size=30) | st.just(SIGN), max_size=8), max_size=6))
def test_the_budget_is_given_back(answers: list[list[bytes]]) -> None:
    budget = TapBudget(100)
    taps = [Tap([SIGN], budget) for _ in answers]
    for tap, chunks in zip(taps, answers, strict=True):
        for chunk in chunks:
            tap.feed(chunk)
        assert 0 <= budget.used <= budget.max_bytes
    for index, tap in enumerate(taps):
        if index % 2:
            tap.taken()
        else:
            tap.dropped()
    assert budget.used == 0
