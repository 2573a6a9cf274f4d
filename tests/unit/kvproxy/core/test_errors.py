import json

import pytest

from kvproxy.core.errors import ERRORS, ProxyError, anthropic_body, openai_body


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_code_in_both_dialects(code: str) -> None:
    error = ProxyError(code, 'say "what" to do\n', param="model")
    openai = json.loads(openai_body(error))
    assert openai == {
        "error": {
            "message": 'say "what" to do\n',
            "type": ERRORS[code].openai,
            "param": "model",
            "code": ERRORS[code].status,
        }
    }
    anthropic = json.loads(anthropic_body(error))
    assert anthropic["type"] == "error"
    assert anthropic["error"] == {"type": ERRORS[code].anthropic, "message": error.message}


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_statuses_are_errors(code: str) -> None:
    assert 400 <= ProxyError(code, "x").status < 600


def test_an_unknown_code_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="nonsense"):
        ProxyError("nonsense", "x")


def test_what_a_client_is_told_beside_the_body() -> None:
    error = ProxyError("overloaded", "wait", retry_after_s=2.5)
    assert (error.status, error.retry_after_s, error.param, str(error)) == (429, 2.5, None, "wait")


def test_a_failure_anew_is_the_same_and_knows_nothing_of_where_it_was_raised() -> None:
    told = {"param": "model", "retry_after_s": 2.0, "body": b"{}"}
    error = ProxyError("overloaded", "Too much.", **told)  # type: ignore[arg-type]
    try:
        raise error
    except ProxyError as raised:
        again = raised.anew()
    assert (again.__traceback__, again.__context__, again.__cause__) == (None, None, None)
    assert vars(again) == vars(error)
    assert str(again) == str(error)
