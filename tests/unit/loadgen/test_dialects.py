import json
from typing import Any

import pytest

from kvproxy.core import dialects as proxy
from loadgen.content import Conversation, Prompt
from loadgen.dialects import DIALECTS, TOOLS, Asked, Said
from loadgen.layout import Overhead
from loadgen.plan import ContentSettings, Plan
from loadgen.text import WordPool
from tests.support.traces import trace, turn

OVERHEAD = Overhead(generation=2, system=3, user=3, assistant=3, tool=3, call=15, tools=400)
MADE = trace(
    [
        turn(3200, range(1, 201)),
        turn(3360, range(1, 211), tool_result=True),
        turn(3200, [*range(1, 191), *range(300, 310)]),
    ],
    fixed=2400,
)


def prompts(name: str) -> list[Prompt]:
    plan = Plan(MADE, ContentSettings(overhead=OVERHEAD))
    conversation = Conversation(plan, WordPool(1), dialect=DIALECTS[name])
    return [conversation.prompt(request) for request in range(3)]


def body(name: str, prompt: Prompt, exact: bool = True) -> dict[str, Any]:
    asked = Asked("m", prompt.fragments, prompt.tools, prompt.opens, 7, exact)
    made = json.loads(DIALECTS[name].body(asked))
    assert isinstance(made, dict)
    return made


def test_chat_declares_tools_and_answers_calls() -> None:
    made = body("chat", prompts("chat")[1])
    assert [tool["function"]["name"] for tool in made["tools"]] == list(TOOLS)
    assert made["messages"][0]["role"] == "system"
    answer, result = made["messages"][-2:]
    assert (answer["role"], result["role"]) == ("assistant", "tool")
    called = answer["tool_calls"][0]
    assert called["id"] == result["tool_call_id"]
    assert called["function"]["name"] in TOOLS
    assert (made["max_tokens"], made["min_tokens"], made["ignore_eos"]) == (7, 7, True)


def test_messages_keep_system_and_tools_apart() -> None:
    made = body("messages", prompts("messages")[1])
    assert made["system"][0]["type"] == "text"
    assert set(made["tools"][0]) == {"name", "description", "input_schema"}
    answer, after = made["messages"][-2:]
    assert (answer["role"], after["role"]) == ("assistant", "user")
    used, result = answer["content"][1], after["content"][0]
    assert (used["type"], result["type"]) == ("tool_use", "tool_result")
    assert used["id"] == result["tool_use_id"]
    assert "min_tokens" not in made


def test_responses_are_items() -> None:
    made = body("responses", prompts("responses")[1])
    assert made["instructions"]
    said, call, output = made["input"][-3:]
    assert said["content"][0]["type"] == "output_text"
    assert (call["type"], output["type"]) == ("function_call", "function_call_output")
    assert call["call_id"] == output["call_id"]
    assert (made["max_output_tokens"], made["store"]) == (7, False)
    assert set(made["tools"][0]) == {"type", "name", "description", "parameters"}


def test_a_completion_is_all_the_words() -> None:
    made = body("completions", prompts("completions")[0])
    plan = Plan(MADE, ContentSettings())
    plain = Conversation(plan, WordPool(1), dialect=DIALECTS["completions"])
    assert len(body("completions", plain.prompt(0))["prompt"]) == 4 * 3200
    assert set(made["prompt"]) <= set(" abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize("name", DIALECTS)
def test_engine_extras_are_left_out_on_request(name: str) -> None:
    assert not {"min_tokens", "ignore_eos"} & body(name, prompts(name)[0], exact=False).keys()


@pytest.mark.parametrize("name", DIALECTS)
def test_text_is_the_same_in_every_dialect(name: str) -> None:
    def words(value: object) -> list[str]:
        if isinstance(value, str):
            return value.split() if value.startswith(" ") else []
        if isinstance(value, dict):
            return [word for part in value.values() for word in words(part)]
        if isinstance(value, list):
            return [word for part in value for word in words(part)]
        return []

    for ours, chat in zip(prompts(name), prompts("chat"), strict=True):
        assert sorted(words(body(name, ours))) == sorted(words(body("chat", chat)))


@pytest.mark.parametrize("name", DIALECTS)
def test_the_proxy_understands_it(name: str) -> None:
    assert proxy.dialect_of("POST", DIALECTS[name].path) is not None


@pytest.mark.parametrize("name", DIALECTS)
def test_a_message_without_a_call_has_none(name: str) -> None:
    said = DIALECTS[name].message(Said("assistant", b" the end"))
    assert b" the end" in said
    assert b"call" not in said
    assert b"tool" not in said


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_a_model_may_have_any_name(name: str) -> None:
    odd = 'C:\\models\\a "b" é'
    prompt = prompts(name)[0]
    asked = Asked(odd, prompt.fragments, prompt.tools, prompt.opens, 7, exact=True)
    assert json.loads(DIALECTS[name].body(asked))["model"] == odd
