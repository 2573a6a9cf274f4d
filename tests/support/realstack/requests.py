"""Requests of every kind that a client may send to the tiny model, good and bad."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.realstack.dialogue import TOOLS
from tests.support.realstack.engine import MODEL

_SYSTEM = "You are a coding agent. " + " ".join(
    f"Rule {number}: prefer small changes to module_{number}.py and explain them."
    for number in range(40)
)
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": _SYSTEM},
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
USAGE = {"include_usage": True}


@dataclass(frozen=True, slots=True)
class Case:
    """`raw` stands in for `body` where that is not JSON, or no object."""

    name: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def bytes(self) -> bytes:
        return json.dumps(self.body).encode() if self.raw is None else self.raw


def chat(name: str, **changes: Any) -> Case:
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8, "temperature": 0, **changes}
    return Case(name, "/v1/chat/completions", body)


def messages(name: str, **changes: Any) -> Case:
    body = {
        "model": MODEL,
        "system": _SYSTEM,
        "messages": MESSAGES[1:],
        "max_tokens": 8,
        "temperature": 0,
        **changes,
    }
    return Case(name, "/v1/messages", body, headers={"anthropic-version": "2023-06-01"})


def completion(name: str, **changes: Any) -> Case:
    body = {"model": MODEL, "prompt": _SYSTEM, "max_tokens": 8, "temperature": 0, **changes}
    return Case(name, "/v1/completions", body)


ANSWERED = [
    chat("chat"),
    chat("chat-stream", stream=True),
    chat("chat-stream-usage", stream=True, stream_options=USAGE),
    chat("chat-usage-in-every-chunk", stream=True,
         stream_options=USAGE | {"continuous_usage_stats": True}),
    chat("chat-tools", tools=TOOLS, tool_choice="none", messages=TOOL_TURNS),
    chat("chat-tools-auto-stream", tools=TOOLS, tool_choice="auto", stream=True),
    chat("chat-tool-required", tools=TOOLS, tool_choice="required", max_tokens=40),
    chat("chat-tool-required-stream", tools=TOOLS, tool_choice="required", max_tokens=40,
         stream=True, stream_options=USAGE),
    chat("chat-token-ids", return_token_ids=True),
    chat("chat-token-ids-stream", return_token_ids=True, stream=True),
    chat("chat-salt", cache_salt="tenant-1"),
    chat("chat-session-field", session_id="s-1"),
    chat("chat-logprobs", logprobs=True, top_logprobs=2),
    chat("chat-two-choices", n=2, temperature=0.5, seed=3),
    chat("chat-parts", messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]),
    messages("messages"),
    messages("messages-stream", stream=True),
    messages("messages-tools", tools=[
        {"name": t["function"]["name"], "description": t["function"]["description"],
         "input_schema": t["function"]["parameters"]} for t in TOOLS
    ]),
    Case("messages-count", "/v1/messages/count_tokens",
         {"model": MODEL, "system": _SYSTEM, "messages": MESSAGES[1:]}),
    completion("completion"),
    completion("completion-stream", stream=True, stream_options=USAGE),
    completion("completion-list", prompt=["one two", "three four"]),
    completion("completion-token-ids", prompt=[300, 301, 302, 303] * 20),
    completion("completion-echo", echo=True, prompt="echo this"),
    Case("responses", "/v1/responses", {"model": MODEL, "input": "Hello there", "store": False,
                                        "max_output_tokens": 8, "temperature": 0}),
    Case("responses-stream", "/v1/responses", {"model": MODEL, "input": "Hello", "stream": True,
                                               "max_output_tokens": 8, "temperature": 0}),
    Case("tokenize", "/tokenize", {"model": MODEL, "messages": MESSAGES, "tools": TOOLS}),
    Case("detokenize", "/detokenize", {"model": MODEL, "tokens": [300, 301, 302]}),
    Case("render", "/v1/chat/completions/render", chat("").body),
]  # fmt: skip

REFUSED = [
    chat("too-long", messages=[{"role": "user", "content": "word " * 40_000}]),
    chat("too-long-stream", messages=[{"role": "user", "content": "word " * 40_000}], stream=True),
    chat("max-tokens-too-big", max_tokens=1_000_000),
    chat("bad-temperature", temperature=-1),
    chat("wrong-type", max_tokens="many"),
    chat("messages-no-list", messages="hello"),
    chat("name-null", messages=[{"role": "assistant", "content": "x", "name": None}]),
    chat("stream-options-without-stream", stream_options=USAGE),
    messages("messages-bad-block", messages=[{"role": "user", "content": [{"type": "video"}]}]),
    messages("messages-unknown-model", model="nobody"),
    messages("messages-too-long", messages=[{"role": "user", "content": "word " * 40_000}]),
    Case("messages-bad-json", "/v1/messages", raw=b'{"model": "tiny", "messages": ['),
    Case("missing-messages", "/v1/chat/completions", {"model": MODEL}),
    Case("no-such-path", "/v1/nothing", {"model": MODEL}),
    Case("wrong-method", "/v1/models", {"model": MODEL}),
    Case("responses-unknown-model", "/v1/responses", {"model": "nobody", "input": "x"}),
]

# kvproxy refuses these by itself: no replica could be chosen, or none would take them.
REFUSED_BY_US = [
    chat("unknown-model", model="nobody"),
    Case("bad-json", "/v1/chat/completions", raw=b'{"model": "tiny", "messages": ['),
    Case("empty-body", "/v1/chat/completions", raw=b""),
    Case("not-an-object", "/v1/chat/completions", raw=b"[1]"),
    Case("content-type", "/v1/chat/completions", chat("").body,
         headers={"content-type": "text/plain"}),
]  # fmt: skip
