"""A request to the tiny model, and what requests are made from."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.realstack.dialogue import TOOLS
from tests.support.realstack.engine import MODEL

SYSTEM = "You are a coding agent. " + " ".join(
    f"Rule {number}: prefer small changes to module_{number}.py and explain them."
    for number in range(40)
)
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": "Fix the failing test in test_router.py."},
]
_CALL = {"name": "read_file", "arguments": '{"path": "test_router.py", "limit": 20}'}
TOOL_TURNS: list[dict[str, Any]] = [
    *MESSAGES,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": _CALL}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "def test_x():\n    assert False\n"},
]
# Never the likeliest token, which is white space, and room to come to an end.
CALLING: dict[str, Any] = {"temperature": 1, "max_tokens": 2000}
USAGE = {"include_usage": True}
# Few enough things to say that a model of random weights comes to an end.
SWITCH: dict[str, Any] = {
    "name": "switch",
    "description": "Turns the lamp on or off",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
        "additionalProperties": False,
    },
}
CHAT_SWITCH = {"type": "function", "function": SWITCH}
MESSAGES_SWITCH = {
    "name": SWITCH["name"],
    "description": SWITCH["description"],
    "strict": True,
    "input_schema": SWITCH["parameters"],
}
RESPONSES_SWITCH = {"type": "function", **SWITCH}
MESSAGES_TOOLS = [
    {
        "name": tool["function"]["name"],
        "description": tool["function"]["description"],
        "input_schema": tool["function"]["parameters"],
    }
    for tool in TOOLS
]
MESSAGES_TURNS: list[dict[str, Any]] = [
    *MESSAGES[1:],
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Look first.", "signature": "c2ln"},
            {"type": "text", "text": "Reading it."},
            {"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "a.py"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "def test_x(): ..."},
            {"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}},
        ],
    },
]
RESPONSES_ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "input_text", "text": "Fix the failing test."}]},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Look first."}],
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Reading it.", "annotations": []}],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "read_file",
        "arguments": '{"path": "a.py"}',
        "status": "completed",
    },
    {"type": "function_call_output", "call_id": "call_1", "output": "def test_x(): ..."},
]


@dataclass(frozen=True, slots=True)
class Case:
    """`raw` stands in for `body` where that is not JSON, or no object; a GET has neither."""

    name: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"

    @property
    def is_sure(self) -> bool:
        """Whether asked twice it says the same."""
        return not self.body.get("temperature") or "seed" in self.body

    @property
    def calls_once(self) -> bool:
        """Whether an answer is as wanted only if it is one whole call of a tool."""
        return self.body.get("temperature") == CALLING["temperature"]

    def bytes(self) -> bytes | None:
        if self.method == "GET":
            return None
        return json.dumps(self.body).encode() if self.raw is None else self.raw


def chat(name: str, **changes: Any) -> Case:
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8, "temperature": 0, **changes}
    return Case(name, "/v1/chat/completions", body)


def messages(name: str, **changes: Any) -> Case:
    body = {
        "model": MODEL,
        "system": SYSTEM,
        "messages": MESSAGES[1:],
        "max_tokens": 8,
        "temperature": 0,
        **changes,
    }
    return Case(name, "/v1/messages", body, headers={"anthropic-version": "2023-06-01"})


def completion(name: str, **changes: Any) -> Case:
    body = {"model": MODEL, "prompt": SYSTEM, "max_tokens": 8, "temperature": 0, **changes}
    return Case(name, "/v1/completions", body)


def responses(name: str, **changes: Any) -> Case:
    body = {"model": MODEL, "input": "Hello", "max_output_tokens": 8, "temperature": 0, **changes}
    return Case(name, "/v1/responses", body)


def get(name: str, path: str) -> Case:
    return Case(name, path, method="GET")
