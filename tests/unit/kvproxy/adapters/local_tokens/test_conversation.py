from typing import Any

import pytest

from kvproxy.adapters.local_tokens.conversation import UnlikeError, conversation


def messages(*given: dict[str, Any], parts: bool = False) -> list[dict[str, Any]]:
    return conversation({"messages": list(given)}, parts=parts).messages


def test_messages_keep_what_a_template_may_see() -> None:
    given = {"role": "user", "content": "hi", "name": "ann", "refusal": None, "cache_control": {}}
    assert messages(given) == [{"role": "user", "content": "hi", "name": "ann"}]


def test_texts_are_joined_by_lines_or_stay_parts() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    given = {"role": "user", "content": content}
    assert messages(given)[0]["content"] == "a\nb"
    assert messages(given, parts=True)[0]["content"] == content
    plain = {"role": "user", "content": "a"}
    assert messages(plain, parts=True)[0]["content"] == [{"type": "text", "text": "a"}]
    result = {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "r"}]}
    assert messages(result, parts=True) == [{"role": "tool", "content": "r", "tool_call_id": "c"}]


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ('{"b": 1, "a": 2}', {"b": 1, "a": 2}),
        ({"a": 1}, {"a": 1}),
        ("not json", {}),
        ("[1]", {}),
        ("", {}),
        (None, {}),
    ],
)
def test_arguments_are_parsed(given: object, seen: object) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": given}}
    [message] = messages({"role": "assistant", "content": None, "tool_calls": [call]})
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": seen}
    assert message["tool_calls"][0]["id"] == "1"


def test_reasoning_has_both_its_names() -> None:
    [message] = messages({"role": "assistant", "content": "x", "reasoning_content": "why"})
    assert (message["reasoning"], message["reasoning_content"]) == ("why", "why")


def test_tools_have_an_order_of_their_own() -> None:
    tool = {"function": {"parameters": {"b": 1, "a": 2}, "x": 1, "name": "f"}, "type": "function"}
    tools = conversation({"messages": [], "tools": [tool]}, parts=False).tools
    assert repr(tools) == repr(
        [
            {
                "type": "function",
                "function": {"name": "f", "description": None, "parameters": {"b": 1, "a": 2}},
            }
        ]
    )
    strict = {"function": {"name": "f", "strict": False}, "type": "function"}
    asked = conversation({"messages": [], "tools": [strict]}, parts=False)
    assert asked.tools is not None
    assert asked.tools[0]["function"]["strict"] is False
    assert conversation({"messages": [], "tools": []}, parts=False).tools is None


def test_what_templates_are_told_beside() -> None:
    body = {"messages": [], "reasoning_effort": "none", "chat_template_kwargs": {"x": 1}}
    assert conversation(body, parts=False).extra == {
        "add_generation_prompt": True,
        "reasoning_effort": "none",
        "enable_thinking": False,
        "x": 1,
    }


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x"},
        {"messages": [], "chat_template": "x"},
        {"messages": [], "continue_final_message": True},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
        {"messages": [], "tools": ["x"]},
    ],
)
def test_what_is_rendered_otherwise_is_said_to_be(body: dict[str, Any]) -> None:
    with pytest.raises(UnlikeError):
        conversation(body, parts=False)
