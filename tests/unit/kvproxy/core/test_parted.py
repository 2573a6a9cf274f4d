"""Bodies in parts against the same bodies read as any object."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.core import turn
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.errors import ProxyError
from kvproxy.core.parted import Parted, Stretch, decoded, going_on, parted
from kvproxy.core.pieces import Pieces
from kvproxy.core.spans import Span, array_spans, object_spans
from tests.support.json_layouts import TEXTS, json_values
from tests.support.makers import make_reader

BEGINS = b'{"role"'
ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
ANY_LIST: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[Any])
LAYOUTS = st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}])
ELEMENTS = st.fixed_dictionaries({"role": TEXTS, "content": json_values(3)})
# Also ones that begin otherwise, or have the beginning of another inside.
ODD = st.just({"role": "a", "x": [{"role": "b"}, {"role": "c"}]}) | st.just({"name": "n"})
OTHERS = st.dictionaries(st.sampled_from(["model", "tools", "a", "messages "]), json_values(4))


def checked(body: bytes, last: int) -> Parted | None:
    """None where it is not told apart, or its middle turns out to be none."""
    parts = parted(body, "messages", BEGINS, last)
    try:
        if parts is not None:
            parts.check(body, ANY)
    except msgspec.DecodeError:
        return None
    return parts


def whole(parts: Parted) -> list[Span]:
    return [*parts.opening, *parts.middle, *parts.last]


@given(st.lists(ELEMENTS | ODD, max_size=12), OTHERS, OTHERS, LAYOUTS, st.integers(1, 3))
def test_parts_are_those_of_the_body(
    said: list[Any], before: dict[str, Any], behind: dict[str, Any], layout: Any, last: int
) -> None:
    body = json.dumps(before | {"messages": said} | behind, **layout).encode()
    parts = checked(body, last)
    if parts is None:
        return
    members = object_spans(body)
    assert members is not None
    listed = members.pop("messages")
    assert parts.members == members
    assert (parts.start, parts.end) == (listed.start, listed.end)
    assert whole(parts) == array_spans(listed.raw, listed.start)
    assert len(parts.last) == last
    assert parts.middle.end == [*parts.opening, *parts.middle][-1].end


@pytest.mark.parametrize("marks", [(", ", ": "), (",", ":"), (" ,\n", " : ")])
def test_ordinary_bodies_have_parts(marks: tuple[str, str]) -> None:
    said = [{"role": "user", "content": f'says {{"role": {n}}}'} for n in range(9)]
    value = {"model": "m", "messages": said, "tools": [{"a": [1]}]}
    body = json.dumps(value, separators=marks).encode()
    parts = parted(body, "messages", BEGINS, 3)
    assert parts is not None
    assert list(parts.members) == ["model", "tools"]
    assert (len(parts.opening), len(list(parts.middle)), len(parts.last)) == (2, 4, 3)
    stretch, one = parts.middle, msgspec.json.Decoder(dict[str, str])
    parts.check(body, ANY)
    pairs = list(decoded(stretch, one, msgspec.json.Decoder(list[dict[str, str]])))
    assert [each for each, _ in pairs] == said[2:6]
    spans = stretch.spans
    assert [(at.raw, at.start, at.end) for _, at in pairs] == [
        (span.raw, span.start, span.end) for span in spans
    ]


@pytest.mark.parametrize("body", [
    b"", b"{}", b'{"messages":[]}', b'{"messages":0}', b'{"messages":[{"role":1},{"role":2}]}',
    b'{"messages":[' + b",".join([b'{"role":1}'] * 9), b'{"messages":' + b'[{"role":1}]' * 9 + b"}",
    b'{"messages":[' + b" ".join([b'{"role":1}'] * 9) + b"]}",
    b'{"m":1,"messages":[' + b",".join([b'{"role":1}'] * 9) + b'],"m":1}',
])  # fmt: skip
def test_what_has_no_parts(body: bytes) -> None:
    assert parted(body, "messages", BEGINS, 3) is None


def test_what_lies_between_is_decoded_when_it_is_taken() -> None:
    stretch = Stretch(b'[1, "a", 2]', 1, 10)
    with pytest.raises(msgspec.ValidationError):
        stretch.take(msgspec.json.Decoder(list[int]))
    assert stretch.take(ANY) == [1, "a", 2]
    stretch.keep(["known"])
    assert (stretch.take(ANY), stretch.take(ANY)) == (["known"], [1, "a", 2])
    with pytest.raises(msgspec.DecodeError):
        Stretch(b"[1, ]", 1, 4).take(ANY)


TOKENS = [b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b" ", b"1", b'"role"', b'"a":']
PHRASES = [b'{"role":1}', b'{"role":1},', b'"x, ', b'{"role":[', b"]}", b'","', b'],"messages":[']


@settings(max_examples=5 * settings().max_examples)
@given(st.lists(st.sampled_from(TOKENS + PHRASES), max_size=9), st.integers(1, 3))
def test_no_middle_misleads(middle: list[bytes], last: int) -> None:
    """Whatever stands there, the ends are told as they are or not at all."""
    said = [b'{"role":0}'] * 3, [b"".join(middle)], [b'{"role":9}'] * last
    body = b'{"messages":[%b],"m":1}' % b",".join(b",".join(each) for each in said)
    parts = checked(body, last)
    if parts is None:
        return
    members = object_spans(body)
    assert members is not None
    listed = members.pop("messages")
    assert members == parts.members
    assert whole(parts) == array_spans(listed.raw, listed.start)


def long_body(arguments: str, model: str = "m") -> bytes:
    """Long enough to be read in parts, with a call in its middle."""
    said: list[Any] = [{"role": "user", "content": f"{n} " + "words " * 300} for n in range(20)]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    said[9] = {"role": "assistant", "content": None, "tool_calls": [call]}
    said.insert(0, {"role": "system", "content": "be brief"})
    return json.dumps({"messages": said, "model": model, "tools": []}).encode()


def test_a_long_body_is_read_as_it_would_be_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    body = long_body('{"b": "x", "a": 1}')
    in_parts = make_reader().read(Chat(), "", body)
    monkeypatch.setattr(turn, "_PARTED_BYTES", len(body))
    in_one = make_reader().read(Chat(), "", body)
    assert in_parts.chain == in_one.chain
    members = dict(in_one.members)
    del members["messages"]
    assert in_parts.members == members
    for segment in range(len(in_one.chain.items)):
        places = [
            each.layout.place(segment, "messages", each.members) for each in (in_parts, in_one)
        ]
        assert places[0] == places[1] is not None


def test_what_is_healed_in_the_middle_is_found_there() -> None:
    reader, second = make_reader(), long_body('{"a": 1, "b": "x"}', "other")
    assert not reader.read(Chat(), "", long_body('{"b": "x", "a": 1}')).splices
    (splice,) = reader.read(Chat(), "", second).splices
    assert second[splice.start : splice.end] == json.dumps('{"a": 1, "b": "x"}').encode()
    assert splice.new == json.dumps('{"b": "x", "a": 1}').encode()


@pytest.mark.parametrize("broken", [b'"words" words', b"\xff", b"{", b""])
def test_a_middle_that_is_no_json_is_refused_like_any(broken: bytes) -> None:
    body = long_body("{}").replace(b'"content": "11 words words', b'"content": ' + broken, 1)
    with pytest.raises(ProxyError, match="not valid JSON") as caught:
        make_reader().read(Chat(), "", body)
    assert caught.value.code == "invalid_json"


def test_a_middle_of_another_shape_passes_untouched() -> None:
    body = long_body("{}").replace(b'"content": "11 words', b'"content": 11, "x": "11 words', 1)
    read = make_reader().read(Chat(), "", body)
    assert (len(read.chain), read.splices, read.model) == (0, [], "m")


@given(st.lists(ELEMENTS | ODD, min_size=2, max_size=6), OTHERS, OTHERS, LAYOUTS, st.booleans())
def test_what_goes_on_behind_an_element_is_the_rest_of_the_list(
    said: list[Any], before: dict[str, Any], behind: dict[str, Any], layout: Any, cut: bool
) -> None:
    body = json.dumps(before | {"messages": said} | behind, **layout).encode()
    members = object_spans(body)
    assert members is not None
    elements = array_spans(members["messages"].raw, members["messages"].start)
    assert elements is not None
    in_pieces = Pieces([body[: len(body) // 2], body[len(body) // 2 :]]) if cut else body
    for index, element in enumerate(elements):
        more = going_on(in_pieces, element.end, ANY_LIST)
        if more is None:
            last = index == len(elements) - 1
            assert last or not body.endswith(b"}]}") or list(members)[-1] != "messages"
            continue
        stretch, count = more
        assert [span.raw for span in stretch] == [each.raw for each in elements[index + 1 :]]
        assert list(stretch) == elements[index + 1 :]
        assert count == len(said) - index - 1 > 0
        assert stretch.end == elements[-1].end


@pytest.mark.parametrize(
    "rest", ["]}", ",]}", ',{"a":1}', ',{"a":1}]', ',{"a":1},]}', ',{"a":1]}]}', ',{"b":[{"a":1}]}']
)
def test_what_is_no_rest_of_a_list_does_not_go_on(rest: str) -> None:
    body = f'{{"messages":[{{"a":0}}{rest}'.encode()
    assert going_on(body, body.index(b"}") + 1, ANY_LIST) is None
    tools = b'{"messages":[{"a":0},{"b":1}],"tools":[{"c":2}]}'
    assert going_on(tools, tools.index(b"}") + 1, ANY_LIST) is None
