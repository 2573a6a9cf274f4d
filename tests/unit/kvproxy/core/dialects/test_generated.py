"""Answers as engines write them, whole and streamed: what they generated is the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.dialects.generated import SIGNS, WHOLE_SIGNS, Generated, generated, structured
from kvproxy.core.spans import object_spans

ARGUMENTS = ['{"path": "a/b", "limit": 20}', '{"command":"ls\\u00e9"}']
TEXT = '{"answer": [1, 2], "why": "so"}'


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def sse(events: list[dict[str, Any]], named: bool = False) -> bytes:
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        lines.append(f"{name}data: {json.dumps(event)}\n\n")
    return "".join(lines).encode()


def chat_body(arguments: list[str], text: str) -> bytes:
    calls = [{"id": f"c{n}", "function": {"name": "f", "arguments": a}}
             for n, a in enumerate(arguments)]  # fmt: skip
    message = {"role": "assistant", "content": text or None, "tool_calls": calls}
    return json.dumps({"id": "x", "choices": [{"index": 0, "message": message}]}).encode()


def chat_stream(arguments: list[str], text: str, size: int) -> bytes:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in pieces(text, size)]
    for index, each in enumerate(arguments):
        first = {"index": index, "id": f"c{index}", "type": "function", "function": {"name": "f"}}
        deltas.append({"tool_calls": [first]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in pieces(each, size)
        ]
    return (
        sse([{"choices": [{"index": 0, "delta": each}]} for each in deltas]) + b"data: [DONE]\n\n"
    )


def messages_body(arguments: list[str], text: str) -> bytes:
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    uses = [b'{"type":"tool_use","id":"t","name":"f","input":%b}' % a.encode() for a in arguments]
    blocks = [json.dumps(block).encode() for block in content] + uses
    return b'{"type":"message","content":[%b],"usage":{}}' % b",".join(blocks)


def messages_stream(arguments: list[str], text: str, size: int) -> bytes:
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"content": []}}]
    for index, each in enumerate([*([text] if text else []), *arguments]):
        tool = index > 0 or not text
        block = (
            {"type": "tool_use", "id": "t", "name": "f", "input": {}}
            if tool
            else {"type": "text", "text": ""}
        )
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        for piece in pieces(each, size):
            delta = (
                {"type": "input_json_delta", "partial_json": piece}
                if tool
                else {"type": "text_delta", "text": piece}
            )
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
    return sse([*events, {"type": "message_stop"}], named=True)


def responses_items(arguments: list[str], text: str) -> list[dict[str, Any]]:
    said = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    calls = [{"type": "function_call", "call_id": "c", "name": "f", "arguments": a}
             for a in arguments]  # fmt: skip
    return [*([said] if text else []), *calls]


def responses_body(arguments: list[str], text: str) -> bytes:
    return json.dumps({"id": "resp_1", "output": responses_items(arguments, text)}).encode()


def responses_stream(arguments: list[str], text: str, size: int) -> bytes:
    items = responses_items(arguments, text)
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {"output": []}}]
    for item in items:
        events.append({"type": "response.output_item.added", "item": item | {"arguments": ""}})
        events += [
            {"type": "response.function_call_arguments.delta", "delta": piece}
            for piece in pieces(item.get("arguments", ""), size)
        ]
        events.append({"type": "response.output_item.done", "item": item})
    events.append({"type": "response.completed", "response": {"output": items}})
    return sse(events, named=True)


BODIES = {"chat": chat_body, "messages": messages_body, "responses": responses_body}
STREAMS = {"chat": chat_stream, "messages": messages_stream, "responses": responses_stream}
EACH = pytest.mark.parametrize("dialect", BODIES)


@EACH
@pytest.mark.parametrize("text", ["", TEXT, "plain words"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_streams_and_bodies_say_the_same(dialect: str, text: str, count: int) -> None:
    arguments = ARGUMENTS[:count]
    expected = Generated(arguments, [text] if text == TEXT else [])
    assert generated(dialect, BODIES[dialect](arguments, text)) == expected
    for size in (1, 7, 1000):
        stream = STREAMS[dialect](arguments, text, size)
        assert generated(dialect, stream) == expected
        assert not count or any(sign in stream for sign in SIGNS[dialect])
        assert not count or WHOLE_SIGNS[dialect] in stream
    assert not count or WHOLE_SIGNS[dialect] in BODIES[dialect](arguments, text)


@EACH
def test_what_begins_in_the_middle_of_an_event_loses_that_event(dialect: str) -> None:
    stream = b'ial": "x"}\n\n' + STREAMS[dialect](ARGUMENTS, "", 5)
    assert generated(dialect, stream).arguments == ARGUMENTS


@EACH
@given(st.binary(max_size=200))
def test_anything_may_be_an_answer(dialect: str, answer: bytes) -> None:
    generated(dialect, answer)
    generated(dialect, b"data: " + answer)
    generated(dialect, b"{" + answer)


@pytest.mark.parametrize(
    ("members", "is_json"),
    [
        ({"response_format": {"type": "json_object"}}, True),
        ({"response_format": {"type": "text"}}, False),
        ({"guided_json": {"type": "object"}}, True),
        ({"structured_outputs": {"json": {}}}, True),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, True),
        ({"output_config": {"effort": "high"}}, False),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, True),
        ({"text": {"verbosity": "low"}}, False),
        ({"model": "m"}, False),
    ],
)
def test_whose_whole_answer_is_json(members: dict[str, Any], is_json: bool) -> None:
    """Coding agents say how hard to think, or how long to answer, in the same members: all of
    their answers would be kept whole and looked through."""
    spans = object_spans(json.dumps(members).encode())
    assert spans is not None
    assert structured(spans) is is_json
