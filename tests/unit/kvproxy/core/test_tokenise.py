from array import array
from typing import Any

import orjson
import pytest

from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects import dialect_of
from kvproxy.core.representatives import Representatives
from kvproxy.core.tokenise import question, read_tokens, salt_of
from kvproxy.core.turn import TurnReader

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def tool(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def test_the_question_is_what_of_a_request_is_rendered() -> None:
    tools = [tool("a", {"y": 2, "x": 1}), tool("b", {})]
    kept = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "tools": tools}
    body = orjson.dumps({"stream": True, **kept, "temperature": 0, "cache_salt": "s"})
    assert question(CHAT, body) == ("/tokenize", orjson.dumps(kept))
    assert question("/v1/messages", body) == ("/v1/messages/render", body)
    assert question("/v1/embeddings", body) is None
    assert question(CHAT, b"[]") is None


def test_texts_are_asked_for_and_token_ids_need_not_be() -> None:
    body = {"model": "m", "prompt": "hello", "max_tokens": 3}
    assert question(TEXT, orjson.dumps(body)) == (
        "/tokenize",
        b'{"model":"m","prompt":"hello"}',
    )
    assert question(TEXT, orjson.dumps(body | {"prompt": [1, 2, 3]})) is None


@pytest.mark.parametrize(("given", "salt"), [({"cache_salt": "s"}, "s"), ({}, "")])
def test_salts(given: dict[str, str], salt: str) -> None:
    reader = TurnReader(Canonicaliser(Order.FIRST_SEEN, Representatives(2**20)), 1024, 100)
    dialect = dialect_of("POST", TEXT)
    assert dialect is not None
    turn = reader.read(dialect, "", orjson.dumps({"model": "m", "prompt": "hello"} | given))
    assert salt_of(turn) == salt


def test_answers() -> None:
    assert read_tokens(b'{"count":2,"tokens":[5,4294967295]}') == array("I", [5, 2**32 - 1])
    assert read_tokens(b'{"request_id":"r","token_ids":[1]}') == array("I", [1])
    for wrong in (
        b"",
        b"[]",
        b"{}",
        b'{"tokens":"x"}',
        b'{"tokens":[-1]}',
        b'{"tokens":[4294967296]}',
    ):
        with pytest.raises(ValueError, match="not a list of tokens"):
            read_tokens(wrong)
