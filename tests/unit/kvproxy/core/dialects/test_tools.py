import json
from typing import Any

import pytest

from kvproxy.core.canonical import Canonicaliser, Order, Whose
from kvproxy.core.dialects.base import UnknownShapeError
from kvproxy.core.dialects.tools import Tool, tools
from kvproxy.core.representatives import Representatives
from kvproxy.core.spans import Span, array_spans
from kvproxy.core.turn import apply
from kvproxy.core.types import Splice

AB, BA = b'{"a":1,"b":2}', b'{"b":2,"a":1}'


class Reader:
    """Reads lists of {"n": name, "s": schema, ...} with one memory."""

    def __init__(self, order: Order = Order.FIRST_SEEN) -> None:
        self.canon = Canonicaliser(order, Representatives(2**20))

    def read(self, raw: bytes, known: bool = True) -> tuple[list[bytes], list[Splice]]:
        edits = self.canon.edits(Whose(""))
        declared = None
        if known:
            spans = array_spans(raw) or []
            names = [json.loads(span.raw)["n"] for span in spans]
            schemas = [span.raw.partition(b'"s":')[2].partition(b"}")[0] + b"}" for span in spans]
            declared = [Tool([n], s) for n, s in zip(names, schemas, strict=True)]
        segments = tools(Span(raw, 0, len(raw)), declared, ("s",), edits)
        return [segment.data for segment in segments], edits.splices


def listed(*each: tuple[str, bytes], more: str = "") -> bytes:
    return (
        b"["
        + b", ".join(b'{"n":"%b",%b"s":%b}' % (n.encode(), more.encode(), s) for n, s in each)
        + b"]"
    )


def test_a_schema_in_another_order_is_the_only_splice() -> None:
    reader = Reader()
    first = listed(("x", AB), ("y", AB))
    segments, splices = reader.read(first)
    assert splices == []
    shuffled = listed(("x", BA), ("y", AB))
    again, splices = reader.read(shuffled)
    assert [splice.kind for splice in splices] == ["schema_order"]
    assert (again, apply(shuffled, splices)) == (segments, first)


def test_tools_in_another_order_take_what_else_they_say_along() -> None:
    reader = Reader()
    segments, _ = reader.read(listed(("x", AB), ("y", AB)))
    shuffled = listed(("y", BA), ("x", AB), more='"extra":[1],')
    again, splices = reader.read(shuffled)
    assert [splice.kind for splice in splices] == ["tool_order"]
    assert again == segments
    wanted = listed(("x", AB), ("y", AB), more='"extra":[1],').replace(b", {", b",{")
    assert apply(shuffled, splices) == wanted


def test_a_tool_of_unknown_shape_counts_as_a_whole() -> None:
    reader = Reader()
    one = b'[{"kind":"search","depth":1},{"kind":"fetch"}]'
    segments, _ = reader.read(one, known=False)
    other = b'[{"depth":1,"kind":"search"},{"kind":"fetch"}]'
    again, splices = reader.read(other, known=False)
    assert (again, apply(other, splices)) == (segments, one)
    assert reader.read(one.replace(b"1", b"2"), known=False)[0] != segments


def test_facts_behind_the_schema_change_nothing_before_it() -> None:
    raw, edits = listed(("x", AB)), Reader().canon.edits(Whose(""))
    made = [
        tools(Span(raw, 0, len(raw)), [Tool(["x"], AB, behind)], ("s",), edits)[0].data
        for behind in ([None, None], [False, None], [None, True])
    ]
    assert len(set(made)) == 3
    assert all(data.startswith(made[0].partition(AB)[0] + AB) for data in made)


def test_preserve_keeps_orders_apart() -> None:
    reader = Reader(Order.PRESERVE)
    segments, _ = reader.read(listed(("x", AB), ("y", AB)))
    again, splices = reader.read(listed(("y", AB), ("x", AB)))
    assert (again, splices) == (segments[::-1], [])


@pytest.mark.parametrize("raw", [b"null", b"[]"])
def test_no_tools(raw: bytes) -> None:
    assert Reader().read(raw, known=False) == ([], [])


@pytest.mark.parametrize("raw", [b"7", b'"x"', b'{"a":1}'])
def test_no_list(raw: bytes) -> None:
    with pytest.raises(UnknownShapeError):
        Reader().read(raw, known=False)


def test_tools_of_unknown_shape_are_taken_apart_a_few_times_whatever_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def counted(*given: Any) -> Any:
        calls.append(given)
        return array_spans(*given)

    monkeypatch.setattr("kvproxy.core.dialects.tools.array_spans", counted)
    Reader().read(b"[" + b",".join([b"1"] * 500) + b"]", known=False)
    assert len(calls) < 10
