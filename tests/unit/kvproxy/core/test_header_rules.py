import pytest

from kvproxy.core.header_rules import NEEDED, HeaderRules, header_rules
from kvproxy.core.headers import end_to_end

HEADERS = [(b"X-In-A", b"1"), (b"Cookie", b"2"), (b"x-in-a", b"3"), (b"Content-Type", b"4")]


def passed(rules: HeaderRules) -> list[bytes]:
    """As both ends of the proxy do it."""
    headers = rules.sifted(HEADERS) if rules.sifts else HEADERS
    return [value for _, value in end_to_end(headers, rules.without)]


@pytest.mark.parametrize(
    ("drop", "only", "left"),
    [
        ((), (), [b"1", b"2", b"3", b"4"]),
        (("COOKIE",), (), [b"1", b"3", b"4"]),
        (("x-in-*",), (), [b"2", b"4"]),
        (("cookie", "x-in-a"), (), [b"4"]),
        ((), ("cookie",), [b"2", b"4"]),
        ((), ("X-*",), [b"1", b"3", b"4"]),
        (("x-in-a",), ("x-*", "cookie"), [b"2", b"4"]),
        (("x-in-*",), ("x-in-a",), [b"4"]),
    ],
)
def test_what_goes_on(drop: tuple[str, ...], only: tuple[str, ...], left: list[bytes]) -> None:
    rules = header_rules(drop, only)
    assert passed(rules) == left
    for name, value in HEADERS:
        assert rules.hides(name.lower()) is (value not in left)


def test_names_alone_take_no_pass_of_their_own() -> None:
    assert not header_rules(["a", "b"], without=["c"]).sifts
    assert header_rules(["a"], without=["c"]).without == {b"a", b"c"}
    assert header_rules(["a*"]).sifts
    assert header_rules(only=["a"]).sifts


def test_what_goes_in_no_case_does_not_though_it_is_let_pass() -> None:
    assert passed(header_rules(only=["cookie"], without=["cookie"])) == [b"4"]


def test_what_a_message_needs_passes_unsaid() -> None:
    rules = header_rules(only=["x-nothing"])
    assert not any(rules.hides(name.encode()) for name in NEEDED)
