"""Refusals against the bodies that a real vLLM sent."""

import json

import pytest

from loadgen.emulator import errors
from tests.support.shared import shared_path


def captured(name: str) -> dict:
    return json.loads(shared_path("vllm-samples", "http", f"{name}.body").read_bytes())


CASES = {
    "err_bad_json": errors.invalid_json(b'{"model": "tiny", "messages": ['),
    "err_content_type": errors.wrong_content_type(),
    "err_empty_body": errors.missing("body", None),
    "err_missing_messages": errors.missing("body.messages", {"model": "tiny"}),
    "err_not_object": errors.validation_error(
        "model_attributes_type",
        "body",
        "Input should be a valid dictionary or object to extract fields from",
        [1, 2],
    ),
    "err_wrong_type": errors.validation_error(
        "list_type", "body.messages", "Input should be a valid list", "hi"
    ),
    "err_unknown_model": errors.unknown_model("nope", "tiny"),
    "err_too_long": errors.prompt_too_long(32768),
    "err_bad_temperature": errors.bad_value(
        "temperature", "temperature must be non-negative, got -1.0.", -1.0
    ),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", CASES)
def test_equals_the_captured_body(name):
    assert CASES[name].body() == captured(name)


def test_envelope():
    error = errors.bad_value("n", "n must be 1.", 2)
    message = "n must be 1. (parameter=n, value=2)"
    assert error.body() == {
        "error": {"message": message, "type": "BadRequestError", "param": "n", "code": 400}
    }
    assert str(error) == message


def test_invalid_json_that_is_not_text():
    assert "UnicodeDecodeError" in errors.invalid_json(b'{"a": "\xff"}').message
    assert errors.engine_dead().code == 500


def test_too_long_in_total_names_all_numbers():
    error = errors.total_too_long(100, 60, 50)
    assert error.kind == "BadRequestError"
    assert error.param == "input_tokens"
    assert all(number in error.message for number in ("100", "60", "50", "110"))
