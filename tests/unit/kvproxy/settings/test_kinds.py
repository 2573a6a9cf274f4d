from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from kvproxy.settings.kinds import Count, Number, Seconds, Secret, Switch


def parse(kind: Any, value: object) -> Any:
    return TypeAdapter(kind).validate_python(value, strict=True)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Count, 128_000, 128_000),
        (Count, "128k", 128_000),
        (Count, "8080", 8080),
        (Seconds, 30, 30.0),
        (Seconds, "5m", 300.0),
        (Number, 2, 2.0),
        (Number, "2.5", 2.5),
        (Switch, True, True),
        (Switch, "off", False),
        (Switch, "TRUE", True),
        (Secret, "s", SecretStr("s")),
    ],
)
def test_values_and_their_text(kind: Any, value: object, expected: object) -> None:
    parsed = parse(kind, value)
    assert parsed == expected
    assert type(parsed) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Count, 1.0),
        (Count, True),
        (Count, "many"),
        (Seconds, False),
        (Seconds, "soon"),
        (Number, "x"),
        (Number, "nan"),
        (Number, float("inf")),
        (Switch, 1),
        (Switch, "maybe"),
        (Secret, ""),
        (Secret, 5),
    ],
)
def test_what_could_be_meant_otherwise_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        parse(kind, value)


def test_schema_allows_text_for_counts() -> None:
    assert [one["type"] for one in TypeAdapter(Count).json_schema()["anyOf"]] == [
        "integer",
        "string",
    ]
