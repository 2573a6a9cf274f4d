"""Bodies saved one after the other, as `kvproxy explain FILE1 FILE2` is given them."""

import copy
import json
from typing import Any

import pytest

from kvproxy.core.offline import compare_bodies, guess

Body = dict[str, Any]


def tool(name: str) -> Body:
    schema = {
        "type": "object",
        "properties": {"path": {"type": "string"}, "n": {"type": "integer"}},
    }
    return {"name": name, "description": f"to {name} " * 30, "input_schema": schema}


BASE: Body = {
    "model": "m",
    "system": "Rules. " * 300,
    "tools": [tool("read"), tool("write")],
    "messages": [{"role": "user", "content": "hello " * 100}],
}


def encoded(body: Body) -> bytes:
    return json.dumps(body).encode()


def grown(body: Body) -> Body:
    more = [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "go on"}]
    return body | {"messages": body["messages"] + more}


def test_a_conversation_that_goes_on() -> None:
    found = compare_bodies(encoded(BASE), encoded(grown(BASE)))
    assert (found.dialect, found.cause, found.spliced) == ("messages", "grown", [])
    assert 0 < found.tokens - found.direct_tokens < 10
    assert found.healed_tokens == found.direct_tokens


def test_what_kvproxy_would_heal() -> None:
    shuffled = copy.deepcopy(grown(BASE))
    shuffled["tools"].reverse()
    found = compare_bodies(encoded(BASE), encoded(shuffled))
    assert (found.cause, found.spliced) == ("tools_reordered", ["tool_order"])
    assert found.place is not None
    assert found.place.pointer == "/tools/0"
    assert found.healed_tokens > found.direct_tokens
    assert found.tokens - found.healed_tokens < 10


def test_what_nobody_can_heal() -> None:
    edited = copy.deepcopy(grown(BASE))
    edited["messages"][0]["content"] = "hello " * 50 + "HELLO " * 50
    found = compare_bodies(encoded(BASE), encoded(edited))
    assert (found.cause, found.character) == ("history_edited", 300)
    assert found.place is not None
    assert found.place.pointer == "/messages/0"
    assert encoded(edited)[found.place.offset :].startswith(b'{"role": "user", "content": "hello')
    assert "hello" not in "".join(found.diff)
    assert found.healed_tokens == found.direct_tokens


def test_text_is_shown_on_request() -> None:
    edited = copy.deepcopy(BASE)
    edited["messages"][0]["content"] = "bye"
    found = compare_bodies(encoded(BASE), encoded(edited), show_text=True)
    assert '+ "content": "bye"' in found.diff


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (BASE, "messages"),
        ({"messages": [], "tools": [tool("x")]}, "messages"),
        ({"messages": []}, "chat"),
        ({"messages": [], "tools": [{"type": "function"}]}, "chat"),
        ({"input": "x"}, "responses"),
        ({"prompt": "x"}, "completions"),
    ],
)
def test_the_dialect_is_guessed(body: Body, name: str) -> None:
    assert guess(encoded(body)).name == name


@pytest.mark.parametrize("body", [b"[]", b'{"messages": [7]}', b'{"messages": []}'])
def test_what_is_no_prompt(body: bytes) -> None:
    with pytest.raises(ValueError, match="body"):
        compare_bodies(body, body)


def test_every_dialect_can_be_named() -> None:
    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert compare_bodies(encoded(chat), encoded(chat), "chat").dialect == "chat"
