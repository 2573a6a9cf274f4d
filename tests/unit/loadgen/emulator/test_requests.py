import json

import pytest

from loadgen.emulator.errors import ApiError
from loadgen.emulator.requests import (
    ToolChoice,
    chat_call,
    completion_call,
    prompt_of,
    read_object,
)

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
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "body.messages.0"),
        ({"messages": [{"content": "x"}]}, "body.messages.0.role"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "body.messages.0.role"),
        ({"messages": [{"role": "user", "content": 1}]}, "body.messages.0.content"),
        ({"messages": [{"role": "user", "content": [1]}]}, "body.messages.0.content"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
            "body.messages.0.tool_calls.function",
        ),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "body.temperature"),
        ({"n": 2}, "n"),
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
    assert error.param == "body.messages.0.tool_calls.function.arguments"


def test_tool_choice():
    def choice(value: object) -> ToolChoice:
        return chat_call({"messages": USER, "tools": TOOLS, "tool_choice": value}).tool_choice

    assert choice(None) == choice("auto") == ToolChoice("auto")
    assert choice("none") == ToolChoice("none")
    assert choice("required") == ToolChoice("required")
    named = {"type": "function", "function": {"name": "f"}}
    assert choice(named) == ToolChoice("required", "f")


def test_prompts():
    assert prompt_of({"prompt": "x"}) == prompt_of({"prompt": ["x"]}) == "x"
    assert prompt_of({"prompt": [1, 2]}) == prompt_of({"prompt": [[1, 2]]}) == [1, 2]
    for wrong in ({}, {"prompt": ["a", "b"]}, {"prompt": []}, {"prompt": ""}, {"prompt": [1.5]}):
        with pytest.raises(ApiError):
            prompt_of(wrong)
    assert completion_call({"prompt": "x", "max_tokens": 3}).sampling.max_tokens == 3


def test_bodies():
    assert read_object(json.dumps({"a": 1}).encode(), "application/json") == {"a": 1}
    for body, content_type in (
        (b"{}", "text/plain"),
        (b"", "application/json"),
        (b"[1]", "application/json"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
    ):
        with pytest.raises(ApiError) as caught:
            read_object(body, content_type)
        assert caught.value.code == 400
