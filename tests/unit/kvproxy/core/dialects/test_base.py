"""What every dialect must offer, whatever it understands."""

import json

import pytest

from kvproxy.core.dialects import dialect_of, errors_of
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.errors import ERRORS, ProxyError

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")


def dialects() -> list[Dialect]:
    found = [dialect_of("POST", path) for path in PATHS]
    return [dialect for dialect in found if dialect is not None]


def test_paths_have_their_dialect_and_others_none() -> None:
    names = [dialect.name for dialect in dialects()]
    assert names == ["chat", "completions", "messages", "responses"]
    assert dialect_of("GET", PATHS[0]) is None
    assert dialect_of("POST", "/v1/embeddings") is None
    assert dialect_of("POST", PATHS[0] + "/") is None


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_errors_of_everything_below_messages_speak_anthropic(path: str) -> None:
    told = json.loads(errors_of(path).error_body(ProxyError("overloaded", "wait")))
    assert told == {"type": "error", "error": {"type": "rate_limit_error", "message": "wait"}}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/messagesx", "/", "/v1/responses"])
def test_errors_of_anything_else_speak_openai(path: str) -> None:
    told = json.loads(errors_of(path).error_body(ProxyError("overloaded", "wait")))
    assert told["error"]["code"] == 429


@pytest.mark.parametrize("dialect", dialects(), ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_error_can_be_told(dialect: Dialect, code: str) -> None:
    error = ProxyError(code, 'with "quotes"\nand lines')
    assert json.loads(dialect.error_body(error))["error"]["message"] == error.message
    assert b"\n\n" in dialect.stream_error(error)
