"""Shapes of answers, key for key against those of a real vLLM."""

import json
from typing import Any

import pytest

from loadgen.emulator import answers
from loadgen.emulator.answers import Answer, Hits
from loadgen.emulator.replies import Reply, ToolCall
from loadgen.emulator.requests import chat_call, completion_call
from tests.support.shared import shared_path

HITS = Hits(prompt_tokens=100, cached_tokens=64, block_size=16)
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def answer(*, chat: bool = True, call: ToolCall | None = None, **fields: object) -> Answer:
    sampling = (
        chat_call({"messages": [{"role": "user", "content": "x"}]} | fields)
        if chat
        else completion_call({"prompt": "x"} | fields)
    ).sampling
    reply = Reply("Here the", b"Here the", "stop" if call else "length", call)
    return Answer("chatcmpl-1", 7, "emu", chat, sampling, b"abcd" * 100, reply)


def payload(data: bytes) -> dict[str, Any]:
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    return json.loads(data[6:])


def shape(value: object) -> object:
    """Keys in order; of a list, the first element."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [shape(value[0])]
    return None


def ordered(value: object) -> str:
    return json.dumps(shape(value))


def chunks(name: str) -> list[dict[str, Any]]:
    data = shared_path("vllm-samples", "http", f"{name}.body").read_bytes()
    return [json.loads(event[6:]) for event in data.split(b"\n\n") if event.startswith(b"data: {")]


@pytest.mark.shared
def test_bodies_have_the_real_keys_in_the_real_order():
    for name, ours in (
        ("chat_1st", answers.body(answer(), HITS)),
        ("completions", answers.body(answer(chat=False), HITS)),
    ):
        real = json.loads(shared_path("vllm-samples", "http", f"{name}.body").read_bytes())
        assert ordered(ours) == ordered(real)


@pytest.mark.shared
def test_chunks_have_the_real_keys_in_the_real_order():
    plain, usage = answer(stream=True), answer(**USAGE)
    continuous = {"include_usage": True, "continuous_usage_stats": True}
    running = answer(stream=True, stream_options=continuous)
    for name, index, ours in (
        ("chat_stream_usage", 0, answers.role_chunk(usage, HITS)),
        ("chat_stream_usage", 1, answers.token_chunk(usage, HITS, 0, 1)),
        ("chat_stream_usage", -2, answers.token_chunk(usage, HITS, 1, 2)),
        ("chat_stream_usage", -1, answers.usage_chunk(usage, HITS)),
        ("chat_stream_no_usage", -1, answers.token_chunk(plain, HITS, 1, 2)),
        ("chat_stream_continuous_usage", 0, answers.role_chunk(running, HITS)),
        ("chat_stream_continuous_usage", 1, answers.token_chunk(running, HITS, 0, 1)),
    ):
        assert ordered(payload(ours)) == ordered(chunks(name)[index]), (name, index)


def test_usage_adds_up():
    usage = answers.body(answer(), HITS)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
        100,
        2,
        102,
    )
    details = usage["prompt_tokens_details"]
    assert (details["cached_tokens"], details["created_cache_tokens"]) == (64, 32)
    assert Hits(100, 99, 16).created_tokens == 0


def test_the_stream_says_what_the_body_says():
    one = answer(stream=True)
    parts = [payload(answers.token_chunk(one, HITS, at, at + 1))["choices"][0] for at in range(2)]
    choice = answers.body(one, HITS)["choices"][0]
    assert "".join(part["delta"]["content"] for part in parts) == choice["message"]["content"]
    assert [part["finish_reason"] for part in parts] == [None, choice["finish_reason"]]


def test_token_ids_only_when_asked_for():
    asked = answer(return_token_ids=True)
    assert answers.body(asked, HITS)["choices"][0]["token_ids"] == [0x65726548, 0x65687420]
    assert len(answers.body(asked, HITS)["prompt_token_ids"]) == 100
    assert len(payload(answers.role_chunk(asked, HITS))["prompt_token_ids"]) == 100
    assert answers.body(answer(), HITS)["prompt_token_ids"] is None
    text = answer(chat=False, return_token_ids=True)
    choice = payload(answers.token_chunk(text, HITS, 0, 1))["choices"][0]
    assert len(choice["prompt_token_ids"]) == 100
    assert choice["token_ids"] == [0x65726548]


def test_tool_calls():
    call = ToolCall("call-1", "f", '{"a": 1}')
    one = answer(call=call, stream=True)
    choice = answers.body(one, HITS)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call-1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    head = payload(answers.tool_head_chunk(one, call))["choices"][0]["delta"]["tool_calls"][0]
    assert (head["index"], head["function"]) == (0, {"name": "f", "arguments": ""})
    parts = [payload(answers.token_chunk(one, HITS, at, at + 1))["choices"][0] for at in range(2)]
    pieces = [part["delta"]["tool_calls"][0]["function"]["arguments"] for part in parts]
    assert "".join(pieces) == call.arguments
    assert parts[-1]["finish_reason"] == "tool_calls"


def test_tokens_that_say_nothing_make_no_chunk():
    one = answer(call=ToolCall("call-1", "f", "x"), stream=True)
    assert answers.token_chunk(one, HITS, 0, 1) == b""
    assert payload(answers.token_chunk(one, HITS, 1, 2))["choices"][0]["delta"] != {}
