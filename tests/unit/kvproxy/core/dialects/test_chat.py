"""Which differences between two chat bodies are seen: the table that a real engine was measured by.

Where an engine reported a full hit the chain must not change, or a warm replica would be missed;
where it reported a miss the chain must change, or a hit would be promised that does not come.
"""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from kvproxy.core.dialects.chat import Chat
from kvproxy.core.errors import ProxyError
from kvproxy.core.types import Chain
from kvproxy.core.unprinted import Trait
from tests.support.makers import make_reader

Body = dict[str, Any]
CHAT = Chat()

PARAMETERS = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "where"},
        "limit": {"type": "integer", "description": "how many"},
    },
    "required": ["path"],
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": n, "description": f"to {n}", "parameters": PARAMETERS},
    }
    for n in ("read", "write")
]
CALL = {"name": "read", "arguments": '{"path": "/a b", "limit": 20}'}
BASE: Body = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "Fix the bug"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": CALL}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "text"},
    ],
    "tools": TOOLS,
    "temperature": 0.0,
}


def encoded(body: Body, **options: Any) -> bytes:
    return json.dumps(body, **options).encode()


def chain_of(raw: bytes) -> Chain:
    return make_reader().read(CHAT, "", raw).chain


def changed(change: Callable[[Body], object]) -> bytes:
    body = copy.deepcopy(BASE)
    change(body)
    return encoded(body)


def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(inner) for inner in value] if isinstance(value, list) else value


def message(body: Body, index: int, **members: Any) -> None:
    body["messages"][index].update(members)


def text_part(text: str, **more: Any) -> list[Body]:
    return [{"type": "text", "text": text, **more}]


def arguments(body: Body, text: str) -> None:
    body["messages"][2]["tool_calls"][0]["function"]["arguments"] = text


FULL_HITS: dict[str, bytes] = {
    "identical request": encoded(BASE),
    "top-level key order reversed": encoded({key: BASE[key] for key in reversed(BASE)}),
    "white space of the JSON body": encoded(BASE, indent=2),
    "escapes instead of UTF-8": encoded(BASE).replace(b"Fix", rb"\u0046ix"),
    "key order inside each message object": changed(
        lambda b: b.update(messages=backwards(b["messages"]))
    ),
    "key order inside tools[].function": changed(
        lambda b: [
            t.update(function={k: t["function"][k] for k in reversed(t["function"])})
            for t in b["tools"]
        ]
    ),
    "key order of tools[] object": changed(
        lambda b: b.update(tools=[{k: t[k] for k in reversed(t)} for t in b["tools"]])
    ),
    "tool_choice": changed(lambda b: b.update(tool_choice="auto")),
    "white space in arguments": changed(lambda b: arguments(b, '{"path":"/a b","limit":20}')),
    "assistant content empty": changed(lambda b: message(b, 2, content="")),
    "assistant content absent": changed(lambda b: b["messages"][2].pop("content")),
    "unknown extra field in a message": changed(lambda b: message(b, 1, x_extra={"a": 1})),
    "unknown extra top-level fields": changed(
        lambda b: b.update(metadata={"a": "b"}, user="u", x_foo=1)
    ),
    "null top-level fields": changed(lambda b: b.update(stop=None, logprobs=None, n=1)),
    "sampling parameters": changed(lambda b: b.update(temperature=0.7, top_p=0.5, seed=1)),
    "stream": changed(lambda b: b.update(stream=True)),
    "user content as a part": changed(lambda b: message(b, 1, content=text_part("Fix the bug"))),
    "system content as a part": changed(
        lambda b: message(b, 0, content=text_part("You are helpful."))
    ),
    "tool content as a part": changed(lambda b: message(b, 3, content=text_part("text"))),
    "system content as one part with cache_control": changed(
        lambda b: message(b, 0, content=text_part("You are helpful.", cache_control={"type": "e"}))
    ),
    "cache_control on a message": changed(lambda b: message(b, 1, cache_control={"type": "e"})),
    "add_generation_prompt": changed(lambda b: b.update(add_generation_prompt=False)),
    "session_id field": changed(lambda b: b.update(session_id="s")),
    "priority and ids null": changed(
        lambda b: b.update(priority=None, request_id=None, kv_transfer_params=None)
    ),
    # What an engine printed in the client's order hits after the first spelling was spliced in.
    "key order inside parameters": changed(
        lambda b: [
            t["function"].update(parameters=backwards(t["function"]["parameters"]))
            for t in b["tools"]
        ]
    ),
    "order of the tools list": changed(lambda b: b["tools"].reverse()),
    "key order in arguments": changed(lambda b: arguments(b, '{"limit": 20, "path": "/a b"}')),
}

MISSES: dict[str, bytes] = {
    "tool description null": changed(lambda b: b["tools"][0]["function"].update(description=None)),
    "strict: false added": changed(lambda b: b["tools"][0]["function"].update(strict=False)),
    "tools removed": changed(lambda b: b.update(tools=[])),
    "arguments number form": changed(lambda b: arguments(b, '{"path": "/a b", "limit": 20.0}')),
    "system content in two parts": changed(
        lambda b: message(b, 0, content=text_part("You are ") + text_part("helpful."))
    ),
    "trailing space in system prompt": changed(
        lambda b: message(b, 0, content="You are helpful. ")
    ),
    "one character at the start": changed(lambda b: message(b, 0, content="you are helpful.")),
    "cache_salt": changed(lambda b: b.update(cache_salt="s1")),
}

# Full hits of one template only: others print these, so they count as different.
OF_ONE_TEMPLATE: dict[str, bytes] = {
    "tool_call id": changed(
        lambda b: [
            message(b, 3, tool_call_id="x"),
            b["messages"][2]["tool_calls"][0].update(id="x"),
        ]
    ),
    "reasoning": changed(lambda b: message(b, 2, reasoning="because")),
    "name in a user message": changed(lambda b: message(b, 1, name="ann")),
    "role developer": changed(lambda b: message(b, 0, role="developer")),
    "chat_template_kwargs": changed(
        lambda b: b.update(chat_template_kwargs={"enable_thinking": False})
    ),
}


@pytest.mark.parametrize("row", FULL_HITS)
def test_what_the_model_does_not_see(row: str) -> None:
    reader = make_reader()
    base = reader.read(CHAT, "", encoded(BASE)).chain
    assert reader.read(CHAT, "", FULL_HITS[row]).chain == base


@pytest.mark.parametrize("row", MISSES | OF_ONE_TEMPLATE)
def test_what_the_model_sees(row: str) -> None:
    assert chain_of((MISSES | OF_ONE_TEMPLATE)[row]).end != chain_of(encoded(BASE)).end


def test_a_miss_at_the_start_shares_nothing_and_one_behind_it_the_rest() -> None:
    base = chain_of(encoded(BASE))
    assert set(chain_of(MISSES["cache_salt"]).hashes).isdisjoint(base.hashes)
    late = chain_of(MISSES["arguments number form"])
    same = [a == b for a, b in zip(late.hashes, base.hashes, strict=False)]
    assert True in same
    assert same == sorted(same, reverse=True)


def test_reasoning_under_both_names_is_the_same() -> None:
    one, other = (
        chain_of(changed(lambda b, name=name: message(b, 2, **{name: "because"})))
        for name in ("reasoning", "reasoning_content")
    )
    assert one == other


def test_images_count_and_their_cache_marks_do_not() -> None:
    def with_image(url: str, **more: Any) -> Chain:
        part = {"type": "image_url", "image_url": {"url": url}, **more}
        return chain_of(changed(lambda b: message(b, 1, content=[part])))

    assert with_image("a") != with_image("b")
    assert with_image("a") == with_image("a", cache_control={"type": "ephemeral"})
    assert with_image("a") != chain_of(changed(lambda b: message(b, 1, content="a")))


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.update(messages={}),
        lambda b: b.update(messages="text"),
        lambda b: b["messages"].append("text"),
        lambda b: b["messages"].append({"content": "no role"}),
        lambda b: b["messages"].append({"role": "user", "content": 7}),
        lambda b: b["messages"].append({"role": "assistant", "tool_calls": [{}]}),
        lambda b: b.update(tools={"a": 1}),
        lambda b: b.update(tools="x"),
    ],
)
def test_unknown_shapes_have_no_chain_and_no_splices(change: Callable[[Body], object]) -> None:
    turn = make_reader().read(CHAT, "", changed(change))
    assert (len(turn.chain), turn.splices, turn.model) == (0, [], "m")


def test_arguments_that_are_no_object_are_kept_exactly() -> None:
    deep = '{"a":' * 900 + "1" + "}" * 900
    for text in ("", "not json", "[1, 2]", "7", '{"a":1} x', '{"a":1', deep):
        turn = make_reader().read(CHAT, "", changed(lambda b, text=text: arguments(b, text)))
        assert turn.splices == []
        assert len(turn.chain) > 0


def test_errors_speak_openai() -> None:
    error = ProxyError("overloaded", "wait")
    assert json.loads(CHAT.error_body(error))["error"]["code"] == 429
    assert CHAT.stream_error(error).startswith(b'data: {"error"')


@pytest.mark.parametrize("ids_are_printed", [True, False])
@pytest.mark.parametrize("call_id", [None, "", "call_1"])
@pytest.mark.parametrize("role", ["user", "assistant", "tool", "developer", "critic"])
@pytest.mark.parametrize("text", ["", "text", "é\n"])
def test_what_is_read_fast_is_what_is_read_else(
    text: str, role: str, call_id: str | None, *, ids_are_printed: bool
) -> None:
    """An empty thought is none, but takes the long way."""
    chains = []
    for more in ({}, {"reasoning": ""}):
        reader = make_reader()
        if not ids_are_printed:
            reader._canon.unprinted.traits = frozenset({Trait.IDS})
        said = {"role": role, "content": text, "tool_call_id": call_id} | more
        messages = [*BASE["messages"], said]
        chains.append(reader.read(CHAT, "", encoded(BASE | {"messages": messages})).chain)
    assert chains[0] == chains[1]
