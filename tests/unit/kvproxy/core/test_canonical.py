import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.canonical import Canonicaliser, Edits, Order, Whose, is_sorted
from kvproxy.core.representatives import Representatives
from kvproxy.core.spans import Span
from kvproxy.core.types import Splice
from tests.support.json_layouts import Written, json_values, written_json

FIRST = b'{"b": 1, "a": {"d": 2, "c": 3}}'
SECOND = b'{"a":{"c":3,"d":2},"b":1}'


def edits(order: Order, tenant: str = "t", kept: Representatives | None = None) -> Edits:
    kept = Representatives(2**20) if kept is None else kept
    return Canonicaliser(order, kept).edits(Whose(tenant))


def value(made: Edits, raw: bytes) -> tuple[bytes, bytes]:
    return made.value(raw, msgspec.json.decode(raw))


def test_first_seen_sends_the_first_spelling() -> None:
    kept = Representatives(2**20)
    canonical, forward = value(edits(Order.FIRST_SEEN, kept=kept), FIRST)
    assert forward == FIRST
    assert value(edits(Order.FIRST_SEEN, kept=kept), SECOND) == (canonical, FIRST)
    assert value(edits(Order.FIRST_SEEN, "other", kept), SECOND) == (canonical, SECOND)


def test_sorted_sends_the_sorted_spelling() -> None:
    made = edits(Order.SORTED)
    assert value(made, FIRST) == (SECOND, SECOND)
    # What is sorted already keeps its white space.
    assert value(made, b'{"a": 1, "b": 2}')[1] == b'{"a": 1, "b": 2}'


def test_preserve_tells_orders_apart_but_not_layouts() -> None:
    made = edits(Order.PRESERVE)
    canonical, forward = value(made, FIRST)
    assert forward == FIRST
    assert value(made, FIRST.replace(b" ", b""))[0] == canonical
    assert value(made, SECOND)[0] != canonical


def test_values_with_one_spelling_are_not_kept() -> None:
    kept = Representatives(2**20)
    for raw in (b"{}", b'{"a":1}', b'"text"', b'[{"a":{"b":[]}}]'):
        assert value(edits(Order.FIRST_SEEN, kept=kept), raw)[1] == raw
    assert len(kept) == 0


@given(written_json(json_values(), shuffle=True), st.sampled_from(list(Order)))
def test_what_is_forwarded_means_the_same(document: Written, order: Order) -> None:
    raw = document.text.strip()
    _, forward = value(edits(order), raw)
    assert json.loads(forward) == document.value


LISTS = st.lists(st.sampled_from([b'"a"', b'"b"', b'"c"', b'{"d":1}']), max_size=5)


@given(LISTS, st.randoms(use_true_random=False))
def test_lists_go_in_the_order_first_seen(elements: list[bytes], random: object) -> None:
    kept = Representatives(2**20)
    made = edits(Order.FIRST_SEEN, kept=kept)
    assert made.listing(elements) == list(range(len(elements)))
    shuffled = list(elements)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = edits(Order.FIRST_SEEN, kept=kept).listing(shuffled)
    assert sorted(again) == list(range(len(elements)))
    assert [shuffled[i] for i in again] == elements


def test_sorted_and_preserved_lists() -> None:
    assert edits(Order.SORTED).listing([b"c", b"a", b"b"]) == [1, 2, 0]
    assert edits(Order.PRESERVE).listing([b"c", b"a", b"b"]) == [0, 1, 2]
    assert edits(Order.FIRST_SEEN).listing([]) == []


def test_lists_of_other_elements_have_their_own_order() -> None:
    kept = Representatives(2**20)
    edits(Order.FIRST_SEEN, kept=kept).listing([b'"b"', b'"a"'])
    assert edits(Order.FIRST_SEEN, kept=kept).listing([b'"a"', b'"b"', b'"c"']) == [0, 1, 2]
    assert edits(Order.FIRST_SEEN, "other", kept).listing([b'"a"', b'"b"']) == [0, 1]


def test_edits_are_splices() -> None:
    made = edits(Order.FIRST_SEEN)
    made.replace(Span(b"old", 5, 8), b"new", "tool_order")
    assert made.splices == [Splice(5, 8, b"new", "tool_order")]


@pytest.mark.parametrize(
    ("text", "in_order"),
    [
        ("{}", True),
        ('{"a":1}', True),
        ('{"a":1,"b":2}', True),
        ('{"b":1,"a":2}', False),
        ('[[{"b":1,"a":2}]]', False),
        ('{"a":{"c":{"b":1,"a":[]}}}', False),
        ("[3,1,2]", True),
    ],
)
def test_orders(text: str, in_order: bool) -> None:
    assert is_sorted(json.loads(text)) == in_order
