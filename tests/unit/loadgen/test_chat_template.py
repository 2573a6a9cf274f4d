import json

import pytest

from loadgen.chat_template import (
    ChatTemplate,
    content_text,
    message_text,
    tool_call_text,
    without_billing,
)
from loadgen.tokens import (
    GENERATION_PROMPT_TOKENS,
    MESSAGE_OVERHEAD_TOKENS,
    StandInTokeniser,
    render,
)

TOOL = {
    "type": "function",
    "function": {
        "name": "read",
        "description": "Read.",
        "parameters": {"type": "object", "a": 1, "b": 2},
    },
}


def prompt(messages, tools=None, *, generation_prompt=True) -> bytes:
    pieces = ChatTemplate().pieces(messages, tools, generation_prompt=generation_prompt)
    return render(StandInTokeniser(), pieces)


def shown(messages, tools=None) -> str:
    return StandInTokeniser().decode(prompt(messages, tools))


def test_the_whole_template():
    text = shown([{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi"}], [TOOL])
    tools = ChatTemplate().tools_text([TOOL])
    assert text == (
        f"<|im_start|><|system|>Be.<|tools|>{tools}<|im_end|>"
        "<|im_start|><|user|>Hi<|im_end|><|im_start|><|assistant|>"
    )
    assert "<tools>\n" + json.dumps(TOOL) + "\n</tools>" in tools


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
@pytest.mark.parametrize("size", [0, 1, 4, 401])
def test_overhead_of_a_message_is_constant(role, size):
    tokens = prompt([{"role": role, "content": "x" * size}], generation_prompt=False)
    assert len(tokens) // 4 == MESSAGE_OVERHEAD_TOKENS + -(-size // 4)


def test_generation_prompt_is_appended():
    messages = [{"role": "user", "content": "x"}]
    without = prompt(messages, generation_prompt=False)
    assert prompt(messages).startswith(without)
    assert len(prompt(messages)) - len(without) == 4 * GENERATION_PROMPT_TOKENS


def test_tools_without_a_system_message_make_one():
    assert shown([{"role": "user", "content": "x"}], [TOOL]).startswith(
        "<|im_start|><|system|><|tools|># Tools"
    )


USER = {"role": "user", "content": "x"}
CALL = {"id": "1", "function": {"name": "f", "arguments": '{"a": 1, "b": 1.50}'}}


def with_call(arguments: str, **extra: str) -> dict:
    call = {"id": "2", **extra, "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def with_tool(**function: object) -> list:
    return [{"type": "function", "function": TOOL["function"] | function}]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"role": "developer", "content": "x"}, {"role": "system", "content": "x"}),
        (USER, {"content": "x", "role": "user", "name": "joe", "cache_control": {}}),
        (USER, {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": 1}]}),
        ({"role": "assistant", "content": None}, {"role": "assistant", "content": ""}),
        (
            {"role": "assistant", "content": "x", "reasoning": None},
            {"role": "assistant", "content": "x"},
        ),
        (with_call('{"a": 1, "b": 1.50}'), with_call('{"a":1,"b":1.5}', type="function")),
        (with_call("nonsense"), with_call("{}")),
    ],
)
def test_differences_that_do_not_reach_the_prompt(first, second):
    assert prompt([first]) == prompt([second])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (with_call('{"a": 1, "b": 2}'), with_call('{"b": 2, "a": 1}')),
        (with_call('{"a": 20}'), with_call('{"a": 20.0}')),
        (USER, {"role": "user", "content": "x "}),
        ({"role": "tool", "content": "x", "name": "f"}, {"role": "tool", "content": "x"}),
        (
            {"role": "assistant", "content": "x", "reasoning": "r"},
            {"role": "assistant", "content": "x"},
        ),
    ],
)
def test_differences_that_do(first, second):
    assert prompt([first]) != prompt([second])


def test_tools_are_whitelisted_and_keep_the_order_of_parameters():
    same = [{"function": {**dict(reversed(TOOL["function"].items())), "x": 1}, "cache_control": {}}]
    template = ChatTemplate()
    assert template.tools_text([TOOL]) == template.tools_text(same)
    swapped = with_tool(parameters={"b": 2, "a": 1, "type": "object"})
    assert template.tools_text([TOOL]) != template.tools_text(swapped)
    assert template.tools_text([TOOL]) != template.tools_text(with_tool(strict=False))
    missing = [{"type": "function", "function": {"name": "read"}}]
    assert '"description": null, "parameters": null' in template.tools_text(missing)


def test_memo_of_tools_is_bounded():
    template = ChatTemplate(memo_max=2)
    for name in "abcd":
        template.tools_text(with_tool(name=name))
    assert len(template._tools) == 2


def test_two_parts_are_joined_with_a_newline():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": None}, "b"]
    assert content_text(parts) == "a\nb"


def test_a_call_is_printed_after_the_text():
    message = {"role": "assistant", "content": "So:", "tool_calls": [CALL]}
    assert message_text(message) == "So:\n" + tool_call_text(CALL["function"])
    assert tool_call_text(CALL["function"]) == (
        '<tool_call>\n{"name": "f", "arguments": {"a": 1, "b": 1.5}}\n</tool_call>'
    )


def test_a_message_of_an_unknown_role_is_not_printed():
    user = {"role": "user", "content": "x"}
    assert prompt([{"role": "judge", "content": "guilty"}, user]) == prompt([user])


def test_the_billing_line_reaches_the_prompt_of_old_engines_alone():
    text = "x-anthropic-billing-header: cch=1;\nBe brief."
    messages = [{"role": "system", "content": text}]
    kept = ChatTemplate(keeps_billing=True).pieces(messages, None)
    assert (kept[2], ChatTemplate().pieces(messages, None)[2]) == (text, "Be brief.")
    assert without_billing("x-anthropic-billing-header: alone") == ""
    user = [{"role": "user", "content": text}]
    assert ChatTemplate().pieces(user, None)[2] == text


def test_a_message_can_be_left_open():
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    pieces = ChatTemplate().pieces(messages, None, generation_prompt=False, continues=True)
    assert pieces[-1] == "y"
    assert ChatTemplate().pieces([], None, generation_prompt=False, continues=True) == []
