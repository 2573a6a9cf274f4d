"""Fields of a JSON body, of the type that vLLM wants or a refusal in its words.

Like the models behind vLLM's API, numbers and booleans may come as strings.
"""

from typing import Any

import msgspec

from loadgen.emulator import errors

_BOOLEANS: dict[object, bool] = {
    **dict.fromkeys((1, "1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys((0, "0", "false", "f", "no", "n", "off"), False),
}
_TYPE_ERRORS = {
    bool: ("bool_type", "Input should be a valid boolean"),
    int: ("int_type", "Input should be a valid integer"),
    float: ("float_type", "Input should be a valid number"),
    str: ("string_type", "Input should be a valid string"),
    list: ("list_type", "Input should be a valid list"),
    dict: ("dict_type", "Input should be a valid dictionary"),
}
_PARSING_ERRORS = {
    bool: ("bool_parsing", "Input should be a valid boolean, unable to interpret input"),
    int: (
        "int_parsing",
        "Input should be a valid integer, unable to parse string as an integer",
    ),
    float: (
        "float_parsing",
        "Input should be a valid number, unable to parse string as a number",
    ),
}


def read_object(body: bytes, content_type: str) -> dict[str, Any]:
    """The JSON object of a body; raises ApiError if it is none or is not sent as JSON."""
    if content_type != "application/json":
        raise errors.wrong_content_type()
    if not body:
        raise errors.missing("body", None)
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise errors.invalid_json(body) from error
    if not isinstance(fields, dict):
        text = "Input should be a valid dictionary or object to extract fields from"
        raise errors.validation_error(("model_attributes_type", text), "body", fields)
    return fields


def field(fields: dict[str, Any], name: str, kind: type, default: Any, at: str = "body") -> Any:
    """A field of a type; absent and null mean `default`. `at` is where `fields` lie."""
    value = fields.get(name)
    return default if value is None else typed(value, kind, f"{at}.{name}")


def required(fields: dict[str, Any], name: str, kind: type, at: str = "body") -> Any:
    """A field that has to be there."""
    if name not in fields:
        raise errors.missing(f"{at}.{name}", fields)
    return typed(fields[name], kind, f"{at}.{name}")


def typed(value: Any, kind: type, loc: str) -> Any:
    """`value` as `kind`; raises ApiError with `loc` if it is none."""
    if kind is bool:
        return _boolean(value, loc)
    if kind in (int, float) and isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            raise errors.validation_error(_PARSING_ERRORS[kind], loc, value) from None
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise errors.validation_error(_TYPE_ERRORS[kind], loc, value)
    return value


def _boolean(value: Any, loc: str) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, (str, int)):
        raise errors.validation_error(_TYPE_ERRORS[bool], loc, value)
    known = _BOOLEANS.get(value.lower() if isinstance(value, str) else value)
    if known is None:
        raise errors.validation_error(_PARSING_ERRORS[bool], loc, value)
    return known
