import re

from kvproxy.core.volatile import BILLING_LINE, Action, Rule, Volatile, Where

DATE = Rule("date", Where.SYSTEM, re.compile(r"\d{4}-\d\d-\d\d"), Action.FREEZE)
LINE = "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch=%s;"


def test_the_billing_line_goes_and_what_follows_stays() -> None:
    rules = Volatile([BILLING_LINE])
    for cch in ("a1b2c", "00000"):
        line = LINE % cch
        assert rules.clean("", "", Where.SYSTEM, line) == ("", "billing_line")
        assert rules.clean("", "", Where.SYSTEM, line + "\nBe brief.") == (
            "Be brief.",
            "billing_line",
        )
    for text in ("Be brief.", "about x-anthropic-billing-header: this", "", "\n" + LINE % "a"):
        assert rules.clean("", "", Where.SYSTEM, text) == (text, "")
    assert rules.clean("", "", Where.USER, LINE % "a") == (LINE % "a", "")


def test_a_session_keeps_its_first_values() -> None:
    rules = Volatile([DATE])
    first = "today 2026-11-24, since 2020-01-01"
    assert rules.clean("t", "s", Where.SYSTEM, first) == (first, "")
    later = "today 2026-11-25, since 2020-01-01"
    assert rules.clean("t", "s", Where.SYSTEM, later) == (first, "date")
    assert rules.clean("t", "other", Where.SYSTEM, later) == (later, "")
    assert rules.clean("u", "s", Where.SYSTEM, later) == (later, "")


def test_nothing_is_frozen_without_a_session() -> None:
    rules = Volatile([DATE])
    for day in ("2026-11-24", "2026-11-25"):
        assert rules.clean("t", "", Where.SYSTEM, day) == (day, "")


def test_a_huge_value_is_not_kept() -> None:
    rules = Volatile([Rule("all", Where.USER, re.compile(r"x+"), Action.FREEZE)])
    assert rules.clean("t", "s", Where.USER, "x" * 5000) == ("x" * 5000, "")
    assert rules.clean("t", "s", Where.USER, "x") == ("x", "")


def test_what_may_happen_is_known_beforehand() -> None:
    assert not Volatile([BILLING_LINE]).freezes
    assert Volatile([BILLING_LINE, DATE]).freezes
    assert not Volatile([BILLING_LINE]).touches(Where.USER)
    assert Volatile([BILLING_LINE, DATE]).names == {"billing_line", "date"}
