"""Members before a list, kept and found again in bodies that begin alike."""

import json

from kvproxy.core.before import Before, before
from kvproxy.core.pieces import Pieces
from kvproxy.core.spans import Span, object_spans

TOOLS = [{"name": f"tool_{number}"} for number in range(20)]
HEAD = {"model": "m", "tools": TOOLS, "stream": True}


def body(said: int) -> bytes:
    return json.dumps(HEAD | {"messages": [{"n": n} for n in range(said)], "n": 1}).encode()


def kept(skip: tuple[int, int] = (0, 0)) -> Before:
    members = object_spans(body(1))
    assert members is not None
    return before(members, members["messages"].start, skip)


def those_before(members: dict[str, Span]) -> dict[str, Span]:
    return {name: span for name, span in members.items() if name in HEAD}


def test_they_are_found_in_a_longer_body() -> None:
    later = object_spans(body(3))
    assert later is not None
    assert kept().in_body(body(3)) == those_before(later)
    assert kept().in_body(Pieces([body(3)[:50], body(3)[50:]])) == those_before(later)


def test_large_ones_are_not_kept() -> None:
    assert list(kept().small) == ["model", "stream"]
    assert list(kept().large) == ["tools"]
    assert Before(kept().small, {}).in_body(b"") == kept().small


def test_what_may_change_is_not_kept() -> None:
    members = object_spans(body(1))
    assert members is not None
    skip = (members["model"].start, members["model"].end)
    assert list(kept(skip).small) == ["stream"]
    other = body(1).replace(b'"m"', b'"x"')
    assert kept(skip).in_body(other)["model"].raw == b'"x"'


def test_bodies_that_begin_alike_share_one() -> None:
    assert kept() is kept()
    taken = kept().in_body(body(1))
    taken.clear()
    assert kept().in_body(body(1))
