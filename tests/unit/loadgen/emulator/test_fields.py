import json

import pytest

from loadgen.emulator.errors import ApiError
from loadgen.emulator.fields import field, read_object, required


def test_bodies():
    assert read_object(json.dumps({"a": 1}).encode(), "application/json") == {"a": 1}
    for body, content_type in (
        (b"{}", "text/plain"),
        (b"", "application/json"),
        (b"[1]", "application/json"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
    ):
        with pytest.raises(ApiError) as caught:
            read_object(body, content_type)
        assert caught.value.code == 400


@pytest.mark.parametrize(
    ("value", "kind", "read"),
    [
        ("5", int, 5),
        ("0.5", float, 0.5),
        (3, float, 3.0),
        ("Yes", bool, True),
        (0, bool, False),
        ([1], list, [1]),
    ],
)
def test_values_are_read_like_the_models_behind_the_api_read_them(value, kind, read):
    got = field({"x": value}, "x", kind, None)
    assert got == read
    assert type(got) is kind


@pytest.mark.parametrize(
    ("value", "kind", "code"),
    [
        ("many", int, "int_parsing"),
        (True, int, "int_type"),
        ("hot", float, "float_parsing"),
        ("perhaps", bool, "bool_parsing"),
        ([], bool, "bool_type"),
        (2, bool, "bool_parsing"),
        (1, str, "string_type"),
        ("x", dict, "dict_type"),
    ],
)
def test_others_are_refused_with_their_place(value, kind, code):
    with pytest.raises(ApiError) as caught:
        field({"x": value}, "x", kind, None, at="body.y")
    assert caught.value.param == "body.y.x"
    assert f"'type': '{code}'" in caught.value.message


def test_null_is_absent_unless_the_field_has_to_be_there():
    assert field({"x": None}, "x", int, 7) == field({}, "x", int, 7) == 7
    with pytest.raises(ApiError, match="Field required"):
        required({}, "x", int)
    with pytest.raises(ApiError, match="int_type"):
        required({"x": None}, "x", int)
