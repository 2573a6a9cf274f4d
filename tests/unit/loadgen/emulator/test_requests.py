import contextlib
import copy
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from loadgen.chat_template import ChatTemplate
from loadgen.emulator.errors import ApiError
from loadgen.emulator.messages_requests import messages_call
from loadgen.emulator.replies import Speaker
from loadgen.emulator.requests import (
    ChatCall,
    ToolChoice,
    chat_call,
    completion_call,
    prompts_of,
)
from loadgen.emulator.responses_requests import responses_call
from loadgen.tokens import StandInTokeniser, render

USER = [{"role": "user", "content": "x"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def refused(fields: dict) -> ApiError:
    with pytest.raises(ApiError) as caught:
        chat_call({"messages": USER} | fields)
    assert caught.value.code == 400
    return caught.value


def test_a_plain_request():
    call = chat_call({"model": "emu", "messages": USER, "unknown": 1, "temperature": 0})
    assert call.messages == USER
    assert call.tools == []
    assert call.tool_choice == ToolChoice("none")
    assert call.generation_prompt
    assert not call.sampling.stream
    assert call.sampling.max_tokens is None


def test_sampling_fields():
    fields = {
        "messages": USER,
        "max_tokens": 5,
        "max_completion_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "ignore_eos": True,
        "min_tokens": 2,
        "cache_salt": "s",
        "return_token_ids": True,
        "stop": ["x"],
        "seed": 3,
    }
    sampling = chat_call(fields).sampling
    assert sampling.max_tokens == 7, "chat prefers max_completion_tokens"
    assert sampling.include_usage
    assert sampling.continuous_usage
    assert (sampling.ignore_eos, sampling.min_tokens, sampling.cache_salt) == (True, 2, "s")
    assert sampling.return_token_ids


def test_null_means_absent():
    fields = dict.fromkeys(("model", "max_tokens", "stream", "tools", "tool_choice", "n"))
    assert chat_call({"messages": USER} | fields) == chat_call({"messages": USER})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "hi"}, "body.messages"),
        ({"messages": []}, None),
        ({"messages": ["x"]}, "body.messages.0"),
        ({"messages": [{"content": "x"}]}, "body.messages.0.role"),
        ({"messages": [{"role": "user", "content": "x", "name": None}]}, "body.messages.0.name"),
        ({"messages": [{"role": "user", "content": 1}]}, "body.messages.0.content"),
        ({"messages": [{"role": "user", "content": [1]}]}, "body.messages.0.content"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
            "body.messages.0.tool_calls.0.function",
        ),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "body.temperature"),
        ({"top_p": 0}, "top_p"),
        ({"min_tokens": 9, "max_tokens": 8}, None),
        ({"cache_salt": ""}, "cache_salt"),
        ({"tools": []}, "tools"),
        ({"tools": TOOLS, "tool_choice": "perhaps"}, "tool_choice"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "body.max_tokens"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [{}]}, "body.tools.0.function"),
        ({"tools": [{"function": {}}]}, "body.tools.0.function.name"),
        ({"tools": TOOLS, "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
    ],
)
def test_refusals_name_the_field(fields, param):
    assert refused(fields).param == param


def test_arguments_must_be_text():
    call = {"function": {"name": "f", "arguments": {}}}
    error = refused({"messages": [{"role": "assistant", "tool_calls": [call]}]})
    assert error.param == "body.messages.0.tool_calls.0.function.arguments"


def test_tool_choice():
    def choice(value: object) -> ToolChoice:
        return chat_call({"messages": USER, "tools": TOOLS, "tool_choice": value}).tool_choice

    assert choice(None) == choice("auto") == ToolChoice("auto")
    assert choice("none") == ToolChoice("none")
    assert choice("required") == ToolChoice("required")
    named = {"type": "function", "function": {"name": "f"}}
    assert choice(named) == ToolChoice("required", "f")


def test_prompts():
    assert prompts_of({"prompt": "x"}) == prompts_of({"prompt": ["x"]}) == ["x"]
    assert prompts_of({"prompt": [1, 2]}) == prompts_of({"prompt": [[1, 2]]}) == [[1, 2]]
    assert prompts_of({"prompt": ["a", "b"]}) == ["a", "b"]
    for wrong in ({}, {"prompt": []}, {"prompt": ""}, {"prompt": [1.5]}, {"prompt": ["a", 1]}):
        with pytest.raises(ApiError):
            prompts_of(wrong)
    assert completion_call({"prompt": "x", "max_tokens": 3}).sampling.max_tokens == 3


def test_several_answers_need_chance():
    assert chat_call({"messages": USER, "n": 2}).sampling.count == 2
    assert refused({"n": 2, "temperature": 0}).message.startswith("n must be 1 when using greedy")
    assert refused({"n": 0}).param is None


def test_a_session_is_named_in_the_body():
    assert chat_call({"messages": USER, "session_id": "s"}).sampling.session_id == "s"
    extra = {"messages": USER, "vllm_xargs": {"session_id": "x"}}
    assert chat_call(extra).sampling.session_id == "x"
    assert chat_call(extra | {"session_id": "s"}).sampling.session_id == "s"


def test_the_last_message_can_be_continued():
    fields = {"messages": USER, "continue_final_message": True}
    assert chat_call(fields | {"add_generation_prompt": False}).continues
    assert refused(fields).param is None


TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}},
}
TEXT = [{"type": "text", "text": "call f"}]
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BODIES = {
    chat_call: {
        "model": "m", "tools": [TOOL], "tool_choice": "auto", "max_tokens": 5, "stream": True,
        "stream_options": {"include_usage": True}, "vllm_xargs": {"session_id": "x"}, "n": 1,
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "assistant", "content": None, "reasoning": "r", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "1", "content": "r", "name": "n"},
            {"role": "user", "content": TEXT},
        ],
    },
    completion_call: {"model": "m", "prompt": ["a", [1, 2]], "max_tokens": 3, "echo": True},
    messages_call: {
        "model": "m", "max_tokens": 5, "system": TEXT, "tool_choice": {"type": "tool", "name": "f"},
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [
                *TEXT, {"type": "tool_result", "tool_use_id": "1", "content": TEXT},
            ]},
        ],
    },
    responses_call: {
        "model": "m", "instructions": "i", "max_output_tokens": 3, "tool_choice": "auto",
        "tools": [
            {"type": "function", "name": "f", "parameters": {}},
            {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g"}]},
            {"type": "custom", "name": "c"},
        ],
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "reasoning", "content": [{"text": "t"}], "summary": [{"text": "u"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "x"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "y"}]},
        ],
    },
}  # fmt: skip
JUNK = (None, 0, -1, 1.5, "", "x", [], ["x"], [None], {}, {"type": 1}, True, [[]], [{}])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else inner:
        yield from places(each, (*path, key))


@pytest.mark.parametrize("read", BODIES, ids=lambda read: read.__name__)
def test_whatever_stands_in_a_body_it_is_answered_or_refused(read: Callable[..., Any]) -> None:
    template, tokeniser = ChatTemplate(), StandInTokeniser()
    speaker = Speaker(tokeniser, 10_000, 0)
    for place, junk in product(places(BODIES[read]), JUNK):
        body = at = copy.deepcopy(BODIES[read])
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = junk
        with contextlib.suppress(ApiError):
            call = read(body)
            chat = getattr(call, "chat", call)
            if isinstance(chat, ChatCall):
                tokens = render(tokeniser, template.pieces(chat.messages, chat.tools))
                speaker.reply(tokens, chat.sampling, chat)
