"""The kinds of values settings have. All accept text too, since the environment knows only text."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema

from kvproxy.core.units import parse_count, parse_duration

_TRUE_FALSE = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _count(value: object) -> object:
    return parse_count(value) if isinstance(value, str) else value


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _number(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None


def _switch(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lower() not in _TRUE_FALSE:
        raise ValueError(f"{value!r} is neither true nor false")
    return _TRUE_FALSE[value.lower()]


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _schema(*alternatives: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": list(alternatives)})


_COUNT_PATTERN = r"^[0-9][0-9_]*(\.[0-9]+)?\s?([kKMGT]|[KMGT]iB?)?$"
_DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?\s?(ms|s|m|h|d)?$"

Count = Annotated[
    int,
    BeforeValidator(_count),
    _schema({"type": "integer", "minimum": 0}, {"type": "string", "pattern": _COUNT_PATTERN}),
]
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    _schema({"type": "number", "minimum": 0}, {"type": "string", "pattern": _DURATION_PATTERN}),
]
Number = Annotated[
    float, BeforeValidator(_number), Field(allow_inf_nan=False), _schema({"type": "number"})
]
Switch = Annotated[bool, BeforeValidator(_switch), _schema({"type": "boolean"})]
Secret = Annotated[
    SecretStr,
    Field(min_length=1),
    _schema(
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "properties": {"file": {"type": "string"}},
            "required": ["file"],
            "additionalProperties": False,
        },
    ),
]
# Strict validation wants tuples; every source of settings has lists.
FROM_LIST = BeforeValidator(_tuple)
