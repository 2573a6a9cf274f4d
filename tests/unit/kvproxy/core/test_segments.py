import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.segments import ROLES, plain, result, segment, sorted_json
from tests.support.json_layouts import json_values

PARTS = st.tuples(json_values(), st.lists(st.binary(max_size=6), max_size=4))


@given(PARTS, PARTS)
def test_segments_are_equal_only_if_frames_and_texts_are(
    one: tuple[object, list[bytes]], other: tuple[object, list[bytes]]
) -> None:
    same = sorted_json(one[0]) == sorted_json(other[0]) and one[1] == other[1]
    assert (segment(*one).data == segment(*other).data) == same


def test_texts_do_not_run_into_each_other() -> None:
    pairs = [[b"a", b"b"], [b"ab"], [b"", b"ab"], [b"ab", b""], [b"a\0b"]]
    assert len({segment(["user"], texts).data for texts in pairs}) == len(pairs)


def test_text_bytes_are_those_of_the_texts() -> None:
    made = segment({"role": "user"}, [b"hello", b"world"])
    assert made.data[made.text_start :][: made.text_bytes] == b"hello\0world"


def test_segments_that_begin_alike_have_equal_beginnings() -> None:
    short, long = segment("system", [b"same"]), segment("system", [b"same and more"])
    assert short.data[:10] == long.data[:10]


def test_sorted_json_ignores_order_alone() -> None:
    assert sorted_json({"b": 1, "a": [2, 1]}) == b'{"a":[2,1],"b":1}'
    assert sorted_json(1) != sorted_json(1.0)
    assert sorted_json([1, 2]) != sorted_json([2, 1])
    assert sorted_json(10**25) == b"1" + b"0" * 25


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("text", [b"", b"hello", b"a\0b"])
def test_a_plain_message_is_a_segment_like_any_other(role: str, text: bytes) -> None:
    assert plain(role, text) == segment(role, [text], [1, None, None])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("call_id", ["", "call_1", 'a"\\é\n'])
def test_a_result_is_a_segment_like_any_other(role: str, call_id: str) -> None:
    for text in (b"", b"hello", b"a\0b"):
        assert result(role, text, call_id) == segment(role, [text], [1, None, call_id])
