"""Spans of random documents in random layouts, against what a JSON parser reads there."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.spans import Span, array_spans, body_spans, object_spans, rest_spans
from tests.support.json_layouts import Written, json_values, written_json

# Keys written out plainly: no escapes.
PLAIN_KEYS = st.text(st.characters(exclude_characters='"\\', exclude_categories=("Cc", "Cs")))


def parsed(raw: bytes) -> Any:
    return json.loads(raw)


@given(written_json(st.dictionaries(PLAIN_KEYS, json_values(), max_size=6), plain_keys=True))
def test_object_spans_slice_to_the_values(document: Written) -> None:
    text, value = document
    spans = object_spans(text, base=1000)
    assert spans is not None
    assert list(spans) == list(value)
    for key, span in spans.items():
        assert text[span.start - 1000 : span.end - 1000] == span.raw == span.raw.strip()
        assert parsed(span.raw) == value[key]


@given(written_json(st.lists(json_values(), max_size=6)))
def test_array_spans_slice_to_the_values(document: Written) -> None:
    text, value = document
    spans = array_spans(text, base=7)
    assert spans is not None
    assert [text[span.start - 7 : span.end - 7] for span in spans] == [s.raw for s in spans]
    assert [parsed(span.raw) for span in spans] == value


@given(written_json(json_values()))
def test_what_is_neither_has_no_spans(document: Written) -> None:
    text, value = document
    assert (array_spans(text) is None) == (not isinstance(value, list))
    if not isinstance(value, dict):
        assert object_spans(text) is None


JSON_LIKE = st.lists(
    st.sampled_from([b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b"\\", b"1", b" ", b"\xff"])
).map(b"".join)


@given(st.binary(max_size=40) | JSON_LIKE)
def test_arbitrary_bytes_are_spans_or_a_decode_error(text: bytes) -> None:
    for scan in (object_spans, array_spans):
        try:
            found = scan(text)
        except msgspec.DecodeError:
            continue
        for span in (found.values() if isinstance(found, dict) else found) or []:
            assert text[span.start : span.end] == span.raw


@given(
    st.dictionaries(PLAIN_KEYS, st.integers(0, 99), min_size=1, max_size=4),
    st.data(),
    st.booleans(),
)
def test_a_repeated_key_has_no_spans(
    value: dict[str, int], data: st.DataObject, compact: bool
) -> None:
    again = data.draw(st.sampled_from(sorted(value)))
    members = list(value.items())
    members.insert(data.draw(st.integers(0, len(members))), (again, data.draw(st.integers(0, 99))))
    comma, colon = (",", ":") if compact else (" ,\n", " : ")
    text = comma.join(f"{json.dumps(k, ensure_ascii=False)}{colon}{v}" for k, v in members)
    assert object_spans(f"{{{text}}}".encode()) is None


@pytest.mark.parametrize(
    "text",
    [
        rb'{"\u0061":1}',
        rb'{"a\"b":1}',
        rb'{"x":1, "a\/b":2}',
        rb'{"a\nb":1}',
    ],
)
def test_an_escaped_key_has_no_spans(text: bytes) -> None:
    assert parsed(text)
    assert object_spans(text) is None


@pytest.mark.parametrize("text", [b"{}", b" {\n} ", b"\t{ }\r\n"])
def test_an_empty_object_has_no_members(text: bytes) -> None:
    assert object_spans(text) == {}


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"a"', b'{"a":}', b'{"a":1}}', b'{"a":1,}', b'{"\xff":1}', b"{'a':1}"]
)
def test_what_is_no_json_is_a_decode_error(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        object_spans(text)


def test_too_deep_nesting_is_a_recursion_error() -> None:
    with pytest.raises(RecursionError):
        object_spans(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_values_keep_their_exact_bytes() -> None:
    text = '{ "a" : [1 , 2 ] ,"b":"é\\n" , "c":-0.50E+1 }'.encode()
    assert object_spans(text) == {
        "a": Span(b"[1 , 2 ]", 8, 16),
        "b": Span('"é\\n"'.encode(), 22, 28),
        "c": Span(b"-0.50E+1", 35, 43),
    }


NAMED = st.sampled_from(["list", "a", "b", 'with "list"'])


@given(
    written_json(
        st.dictionaries(
            NAMED, json_values() | st.lists(json_values(3)) | st.dictionaries(NAMED, st.lists(
                st.integers(), max_size=2
            )),
            max_size=4,
        ),
        plain_keys=True,
    )
)  # fmt: skip
def test_one_pass_finds_what_two_find(document: Written) -> None:
    text = document.text
    found = body_spans(text, "list")
    members = object_spans(text)
    if found is None:
        return
    assert members is not None
    assert found == (members, array_spans(members["list"].raw, members["list"].start))
    members = object_spans(text, 50)
    assert members is not None
    shifted = members, array_spans(members["list"].raw, members["list"].start)
    assert body_spans(text, "list", 50) == shifted


@pytest.mark.parametrize("text", [
    b'{"list":[1,{"a":[2]}],"x":1}', b' { "x" : {"y":3} , "list" : [ 1 , "]" ] } ', b'{"list":[]}',
])  # fmt: skip
def test_one_pass_is_enough_for_ordinary_bodies(text: bytes) -> None:
    members = object_spans(text)
    assert members is not None
    assert body_spans(text, "list") == (
        members,
        array_spans(members["list"].raw, members["list"].start),
    )


@pytest.mark.parametrize("text", [
    b'{"m":{"list":[1]},"list":[1]}', b'{"list":[1],"list":[1]}', b'{"list":[1],"list":[2]}',
    b'{"m":"\\"list\\":[1]","list":[1]}', b'{"m":["list"],"list":[1]}', b'{"list":0}', b'{"list"',
    b'{"m":{"list":[1]}}', b'{"list":[1]', b'{"l\\u0069st":[1],"m":{"list":[1]}}', b'["list"]', b"",
    b'{"list":[1],"\xff":1}',
])  # fmt: skip
def test_what_one_pass_does_not_find_is_left_to_two(text: bytes) -> None:
    found = body_spans(text, "list")
    if found is not None:
        members = object_spans(text)
        assert members is not None
        assert found == (members, array_spans(members["list"].raw, members["list"].start))


@given(st.binary(max_size=40) | JSON_LIKE)
def test_one_pass_survives_arbitrary_bytes(text: bytes) -> None:
    body_spans(b'{"list":[' + text, "list")
    body_spans(text + b'"list":' + text, "list")


@given(
    st.lists(json_values(3), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(["a", "b"]), json_values(3)),
    st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 1}]),
    st.sampled_from(["", "\n"]),
)
def test_the_rest_of_a_body_is_found_where_it_stands(
    said: list[Any], behind: dict[str, Any], layout: Any, end: str
) -> None:
    body = (json.dumps({"m": 1, "list": said} | behind, **layout) + end).encode()
    members = object_spans(body)
    assert members is not None
    elements = array_spans(members["list"].raw, members["list"].start)
    assert elements is not None
    for index, element in enumerate(elements):
        found = rest_spans(body, element.end, "list")
        assert found is not None
        rest, (_, *others) = found
        assert others == elements[index + 1 :]
        assert rest.pop("list").end == members["list"].end
        assert rest == {name: members[name] for name in behind}


@pytest.mark.parametrize("behind", [b"]", b"]}]", b",]}", b'],"x"}', b'],"list":[]}', b"]}}", b""])
def test_a_rest_that_is_no_json_or_has_another_list_is_none(behind: bytes) -> None:
    assert rest_spans(b'{"list":[1' + behind, 10, "list") is None
