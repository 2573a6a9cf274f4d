"""Which differences between two bodies of /v1/responses are seen, and that chat means the same."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.responses import Responses
from kvproxy.core.turn import Turn, apply
from tests.support.makers import make_reader

Body = dict[str, Any]
RESPONSES = Responses()
SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
}
CALL = {"type": "function_call", "call_id": "c1", "name": "read", "arguments": '{"path":"a","n":2}'}
BASE: Body = {
    "model": "m",
    "instructions": "You are helpful.",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix"}]},
        CALL,
        {"type": "function_call_output", "call_id": "c1", "output": "text"},
    ],
    "tools": [
        {"type": "function", "name": name, "description": f"to {name}", "parameters": SCHEMA}
        for name in ("read", "write")
    ],
}


def read(body: Body, reader: Any = None) -> Turn:
    return (reader or make_reader()).read(RESPONSES, "", json.dumps(body).encode())


def changed(change: Callable[[Body], object]) -> Body:
    body = copy.deepcopy(BASE)
    change(body)
    return body


def test_the_same_chain_as_in_chat() -> None:
    """An engine makes these chat messages of BASE."""
    call = {"name": "read", "arguments": '{"path": "a", "n": 2}'}
    chat = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": "Fix"},
            {"role": "assistant", "tool_calls": [{"id": "c1", "function": call}]},
            {"role": "tool", "tool_call_id": "c1", "content": "text"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": n, "description": f"to {n}", "parameters": SCHEMA},
            }
            for n in ("read", "write")
        ],
    }
    chain = make_reader().read(Chat(), "", json.dumps(chat).encode()).chain
    assert read(BASE).chain == chain


UNSEEN: dict[str, Body] = {
    "order of members": {key: BASE[key] for key in reversed(BASE)},
    "ids and status": changed(lambda b: b["input"][1].update(id="fc_1", status="completed")),
    "a message without its type": changed(lambda b: b["input"][0].pop("type")),
    "content as text": changed(lambda b: b["input"][0].update(content="Fix")),
    "order of arguments": changed(lambda b: b["input"][1].update(arguments='{"n":2,"path":"a"}')),
    "white space in arguments": changed(
        lambda b: b["input"][1].update(arguments='{ "path": "a", "n": 2 }')
    ),
    "order of tools": changed(lambda b: b["tools"].reverse()),
    "strict null": changed(lambda b: b["tools"][0].update(strict=None)),
    "members around it": BASE
    | {"stream": True, "store": False, "prompt_cache_key": "k", "include": []},
    "reasoning without effort": BASE | {"reasoning": {"summary": "auto"}},
    "instructions as a message": {
        "model": "m",
        "input": [{"role": "system", "content": "You are helpful."}, *BASE["input"]],
        "tools": BASE["tools"],
    },
}
SEEN: dict[str, Body] = {
    "instructions": BASE | {"instructions": "Be brief."},
    "effort": BASE | {"reasoning": {"effort": "low"}},
    "salt": BASE | {"cache_salt": "s"},
    "previous response": BASE | {"previous_response_id": "resp_1"},
    "arguments": changed(lambda b: b["input"][1].update(arguments='{"path":"b","n":2}')),
    "no arguments": changed(lambda b: b["input"][1].update(arguments="not json")),
    "output": changed(lambda b: b["input"][2].update(output="other")),
    "strict": changed(lambda b: b["tools"][0].update(strict=True)),
    "a tool of another kind": changed(lambda b: b["tools"].append({"type": "web_search"})),
    "reasoning": changed(
        lambda b: b["input"].insert(
            1, {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "why"}]}
        )
    ),
    "a custom call": changed(
        lambda b: b["input"].insert(
            1, {"type": "custom_tool_call", "call_id": "c", "name": "apply", "input": "*** Begin"}
        )
    ),
    "an item of unknown kind": changed(lambda b: b["input"].insert(1, {"type": "other", "x": 1})),
}


@pytest.mark.parametrize("row", UNSEEN)
def test_what_the_model_does_not_see(row: str) -> None:
    reader = make_reader()
    base = read(BASE, reader).chain
    assert read(UNSEEN[row], reader).chain == base


@pytest.mark.parametrize("row", SEEN)
def test_what_the_model_sees(row: str) -> None:
    assert read(SEEN[row]).chain.end != read(BASE).chain.end


def test_a_text_in_place_of_items() -> None:
    text = read(BASE | {"input": "Fix"}).chain
    assert text == read(BASE | {"input": BASE["input"][:1]}).chain
    assert read(BASE | {"input": ""}).chain != text


def test_shuffles_are_forwarded_in_the_first_order() -> None:
    reader = make_reader()
    read(BASE, reader)
    for row in ("order of arguments", "order of tools"):
        raw = json.dumps(UNSEEN[row]).encode()
        sent = json.loads(apply(raw, reader.read(RESPONSES, "", raw).splices))
        assert (sent["input"][1], sent["tools"]) == (CALL, BASE["tools"])


def test_conversations_resume() -> None:
    reader = make_reader()
    body = changed(lambda b: b.update(instructions="Be brief. " * 100))
    ends = []
    for turn in range(4):
        body["input"] += [{"role": "user", "content": f"{turn} " * 100}, CALL]
        ends.append(read(body, reader).resumed_at)
    assert ends[0] == 0
    assert 0 < ends[1] < ends[2] < ends[3]


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.update(input=7),
        lambda b: b.update(instructions=["x"]),
        lambda b: b["input"].append(7),
        lambda b: b["input"].append({"role": "user", "content": 7}),
        lambda b: b.update(tools={"a": 1}),
    ],
)
def test_unknown_shapes_have_no_chain_and_no_splices(change: Callable[[Body], object]) -> None:
    turn = read(changed(change))
    assert (len(turn.chain), turn.splices, turn.model) == (0, [], "m")
