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
        (
            "model_attributes_type",
            "Input should be a valid dictionary or object to extract fields from",
        ),
        "body",
        [1, 2],
    ),
    "err_wrong_type": errors.validation_error(
        ("list_type", "Input should be a valid list"), "body.messages", "hi"
    ),
    "err_unknown_model": errors.unknown_model("nope", "tiny"),
    "err_too_long": errors.prompt_too_long(32768),
    "err_max_tokens_too_big": errors.output_too_long("max_tokens", 100_000, 32768),
    "err_bad_temperature": errors.refused(
        "temperature must be non-negative, got -1.0.", "temperature", -1.0
    ),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", CASES)
def test_equals_the_captured_body(name):
    assert CASES[name].body() == captured(name)


def test_envelope():
    error = errors.refused("n must be 1.", "n", 2)
    message = "n must be 1. (parameter=n, value=2)"
    assert error.body() == {
        "error": {"message": message, "type": "BadRequestError", "param": "n", "code": 400}
    }
    assert str(error) == message
    assert errors.refused("No.", "n").message == "No. (parameter=n)"
    assert errors.refused("No.").message == "No."


def test_messages_have_an_envelope_of_their_own_unless_the_body_cannot_be_read():
    assert errors.unknown_model("a", "b").anthropic_body() == {
        "type": "error",
        "error": {
            "type": "NotFoundError",
            "message": "The model `a` does not exist. Valid aliases: b.",
        },
    }
    unreadable = errors.missing("body.messages", {})
    assert unreadable.anthropic_body() == unreadable.body()


def test_words_to_choose_from_are_listed():
    error = errors.not_one_of(("a", "b", "c"), "body.x", "d")
    assert "Input should be 'a', 'b' or 'c'" in error.message
    assert error.param == "body.x"


def test_invalid_json_that_is_not_text():
    assert "UnicodeDecodeError" in errors.invalid_json(b'{"a": "\xff"}').message
    assert errors.engine_dead().code == 500
    assert errors.scale_out_disabled().code == 403
    assert errors.unknown_response("resp_1").code == 404
