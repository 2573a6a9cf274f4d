"""What of a /v1/messages body reaches the chat template, as vLLM converts it."""

import pytest

from loadgen.emulator.errors import ApiError
from loadgen.emulator.messages_requests import messages_call
from loadgen.emulator.requests import ToolChoice

USER = [{"role": "user", "content": "x"}]
TOOL = {"name": "f", "input_schema": {"properties": {}}}


def call(**fields: object):
    return messages_call({"model": "emu", "max_tokens": 9, "messages": USER} | fields)


def refused(**fields: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call(**fields)
    return caught.value


def test_system_blocks_run_into_each_other_without_the_billing_block():
    billing = "x-anthropic-billing-header: cch=12345;"
    blocks = [{"type": "text", "text": each} for each in (billing, "Be ", "brief.")]
    assert call(system=blocks).messages == [{"role": "system", "content": "Be brief."}, *USER]
    assert call(system=f"{billing}\nBe brief.").messages[0]["content"].startswith("x-anthropic")
    assert call(system=blocks[:1]).messages == USER


def test_tools_are_functions_whose_schema_has_a_type():
    (tool,) = call(tools=[TOOL | {"cache_control": {"type": "ephemeral"}}]).tools
    assert tool["function"] == {
        "name": "f",
        "description": None,
        "parameters": {"properties": {}, "type": "object"},
        "strict": None,
    }


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        (None, ToolChoice("auto")),
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "tool", "name": "f"}, ToolChoice("required", "f")),
        ({"type": "none"}, ToolChoice("none")),
    ],
)
def test_tool_choices(choice, read):
    assert call(tools=[TOOL], tool_choice=choice).tool_choice == read


def test_an_assistant_turn_is_one_message():
    blocks = [
        {"type": "thinking", "thinking": "Hm. ", "signature": "s"},
        {"type": "thinking", "thinking": "Yes.", "signature": "s"},
        {"type": "redacted_thinking", "data": "?"},
        {"type": "text", "text": "Look.", "cache_control": {"type": "ephemeral"}},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"b": 1, "a": 2}},
    ]
    (message,) = call(messages=[{"role": "assistant", "content": blocks}]).messages
    function = {"name": "f", "arguments": '{"b": 1, "a": 2}'}
    assert message == {
        "role": "assistant",
        "reasoning": "Hm. Yes.",
        "tool_calls": [{"id": "t", "type": "function", "function": function}],
        "content": [{"type": "text", "text": "Look."}],
    }


def test_results_of_tools_stand_before_what_the_user_says():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    blocks = [
        {"type": "text", "text": "Go on."},
        {"type": "tool_result", "tool_use_id": "t", "content": parts},
        {"type": "tool_result", "tool_use_id": "u"},
    ]
    messages = call(messages=[{"role": "user", "content": blocks}]).messages
    assert messages == [
        {"role": "tool", "tool_call_id": "t", "content": "one\ntwo"},
        {"role": "tool", "tool_call_id": "u", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "Go on."}]},
    ]
    alone = call(messages=[{"role": "user", "content": blocks[1:]}]).messages
    assert [message["role"] for message in alone] == ["tool", "tool"]


def test_reminders_between_turns_stay_where_they_are():
    reminder = {"role": "system", "content": [{"type": "text", "text": "Hurry."}]}
    assert call(messages=[*USER, reminder]).messages[1] == {"role": "system", "content": "Hurry."}
    empty = {"role": "system", "content": ""}
    assert call(messages=[*USER, empty]).messages == USER


def test_max_tokens_is_a_bound_that_counting_does_not_need():
    assert call().sampling.may_end
    assert messages_call({"model": "emu", "messages": USER}, counts=True).messages == USER
    assert refused(max_tokens=0).param == "body.max_tokens"
    with pytest.raises(ApiError, match="Field required"):
        messages_call({"model": "emu", "messages": USER})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, "body.messages.0.role"),
        ({"messages": [{"role": "user"}]}, "body.messages.0.content"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "body.messages.0.content.0.type"),
        ({"tools": [{"name": "f"}]}, "body.tools.0.input_schema"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, None),
        ({"tools": [TOOL], "tool_choice": {"type": "some"}}, "body.tool_choice.type"),
    ],
)
def test_refusals_name_the_field(fields, param):
    assert refused(**fields).param == param
