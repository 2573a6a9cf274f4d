"""What every dialect must offer, whatever it understands."""

import json

import pytest

from kvproxy.core.dialects import dialect_of
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.errors import ERRORS, ProxyError

PATHS = ("/v1/chat/completions", "/v1/completions")


def dialects() -> list[Dialect]:
    found = [dialect_of("POST", path) for path in PATHS]
    return [dialect for dialect in found if dialect is not None]


def test_paths_have_their_dialect_and_others_none() -> None:
    assert [dialect.name for dialect in dialects()] == ["chat", "completions"]
    assert dialect_of("GET", PATHS[0]) is None
    assert dialect_of("POST", "/v1/embeddings") is None
    assert dialect_of("POST", PATHS[0] + "/") is None


@pytest.mark.parametrize("dialect", dialects(), ids=lambda dialect: dialect.name)
def test_the_head_names_the_model_and_never_what_grows(dialect: Dialect) -> None:
    assert "model" in dialect.head_members
    assert dialect.growing not in dialect.head_members


@pytest.mark.parametrize("dialect", dialects(), ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_error_can_be_told(dialect: Dialect, code: str) -> None:
    error = ProxyError(code, 'with "quotes"\nand lines')
    assert json.loads(dialect.error_body(error))["error"]["message"] == error.message
    assert b"\n\n" in dialect.stream_error(error)
