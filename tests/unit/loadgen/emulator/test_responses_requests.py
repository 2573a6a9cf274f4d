"""What of a /v1/responses body reaches the chat template, as vLLM converts it."""

import pytest

from loadgen.emulator.errors import ApiError
from loadgen.emulator.requests import ToolChoice
from loadgen.emulator.responses_requests import responses_call

TOOL = {"type": "function", "name": "f", "parameters": {}}


def chat(**fields: object):
    return responses_call({"model": "emu", "input": "x"} | fields).chat


def refused(**fields: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        chat(**fields)
    return caught.value


def test_text_is_a_user_message_after_the_instructions():
    assert chat(instructions="Be brief.").messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "x"},
    ]


def test_instructions_of_earlier_responses_do_not_carry_over():
    earlier = [{"role": "system", "content": "Old."}, {"role": "user", "content": "a"}]
    call = responses_call({"input": "b", "instructions": "New."}, earlier)
    assert [message["content"] for message in call.chat.messages] == ["New.", "a", "b"]
    assert call.store


def test_what_the_assistant_thought_said_and_called_is_one_message():
    items = [
        {"type": "reasoning", "summary": [], "content": [{"text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "d", "name": "g", "namespace": "n"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
        {"type": "custom_tool_call", "call_id": "e", "name": "patch", "input": "+1"},
    ]
    first, result, last = chat(input=items).messages
    names = [call["function"]["name"] for call in first["tool_calls"]]
    assert (first["reasoning"], first["content"], names) == ("Hm.", "A", ["f", "n__g"])
    assert result == {"role": "tool", "tool_call_id": "c", "content": "done"}
    assert last["tool_calls"][0]["function"]["arguments"] == '{"input": "+1"}'


def test_two_texts_of_the_assistant_are_two_messages():
    item = {"role": "assistant", "content": "A"}
    assert len(chat(input=[item, item]).messages) == 2
    summary = {"type": "reasoning", "summary": [{"text": "S"}]}
    assert chat(input=[summary]).messages == [{"role": "assistant", "reasoning": "S"}]


def test_tools_that_the_model_is_shown():
    tools = [
        TOOL,
        {"type": "custom", "name": "patch", "description": "d"},
        {"type": "namespace", "name": "n", "tools": [TOOL]},
        {"type": "web_search"},
    ]
    shown = chat(tools=tools).tools
    assert [tool["function"]["name"] for tool in shown] == ["f", "patch", "n__f"]
    assert shown[1]["function"]["parameters"]["required"] == ["input"]


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        (None, ToolChoice("auto")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("required", "f")),
    ],
)
def test_tool_choices(choice, read):
    assert chat(tools=[TOOL], tool_choice=choice).tool_choice == read
    assert chat(tool_choice=choice).tool_choice == ToolChoice("none")


def test_refusals():
    secret = {"type": "reasoning", "summary": [], "encrypted_content": "?"}
    assert refused(input=[secret]).param == "input"
    assert refused(input=[{"type": "screenshot"}]).param == "input"
    assert refused(input=5).param == "body.input"
    assert refused(tools=[{"type": "function"}]).param == "body.tools.0.name"
    unknown = {"type": "function", "name": "g"}
    assert refused(tools=[TOOL], tool_choice=unknown).param == "tool_choice"
    assert refused(tools=[TOOL], tool_choice="perhaps").param == "body.tool_choice"
