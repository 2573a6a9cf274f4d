"""Chat template of the emulated model, ChatML-like, with vLLM's whitelist of what reaches it.

    <|im_start|><|system|>SYSTEM<|tools|>TOOLS<|im_end|>
    <|im_start|><|user|>TEXT<|im_end|> ...
    <|im_start|><|assistant|>                                  (generation prompt)

A message of an unknown role is not printed. Any other costs `MESSAGE_OVERHEAD_TOKENS` plus its
text; declaring tools costs one token plus their text, and a system message if there is none.
Message key order, unknown keys, tool-call ids and white space in arguments do not reach the prompt;
the order of tools, of keys in `parameters` and in arguments, and every byte of text do.
"""

import json
from contextlib import suppress
from typing import Any

import msgspec

from loadgen.tokens import Special

_START, _END, _TOOLS = Special("<|im_start|>"), Special("<|im_end|>"), Special("<|tools|>")
_ROLES = {
    "system": Special("<|system|>"),
    "developer": Special("<|system|>"),
    "user": Special("<|user|>"),
    "assistant": Special("<|assistant|>"),
    "tool": Special("<|tool|>"),
}
BILLING_HEADER = "x-anthropic-billing-header"

_TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions. Their signatures are within <tools></tools>:\n"
    "<tools>\n"
)
_TOOLS_TAIL = (
    '\n</tools>\nFor each call return JSON within <tool_call></tool_call>: {"name": ..., '
    '"arguments": ...}'
)


class ChatTemplate:
    """Renders requests into pieces; remembers the text of the last `memo_max` tool lists, which
    are long and the same in every turn. `keeps_billing`: like vLLM before 0.32, print the line
    that Claude Code puts before its system prompt and changes with every request."""

    def __init__(self, memo_max: int = 256, *, keeps_billing: bool = False) -> None:
        self._memo_max = memo_max
        self._keeps_billing = keeps_billing
        self._tools: dict[bytes, str] = {}

    def pieces(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        *,
        generation_prompt: bool = True,
        continues: bool = False,
    ) -> list[str]:
        """Text pieces and `Special` tokens of a conversation; `continues` leaves its last message
        open."""
        out: list[str] = []
        if tools and (not messages or messages[0].get("role") not in ("system", "developer")):
            out += (_START, _ROLES["system"], _TOOLS, self.tools_text(tools), _END)
            tools = None
        for message in messages:
            role = _ROLES.get(message["role"])
            if role is None:
                continue
            text = message_text(message)
            if role == _ROLES["system"] and not self._keeps_billing:
                text = without_billing(text)
            out += (_START, role, text)
            if tools:
                out += (_TOOLS, self.tools_text(tools))
                tools = None
            out.append(_END)
        if continues and out:
            out.pop()
        if generation_prompt:
            out += (_START, _ROLES["assistant"])
        return out

    def tools_text(self, tools: list[dict[str, Any]]) -> str:
        key = msgspec.json.encode(tools)
        text = self._tools.get(key)
        if text is None:
            text = _TOOLS_HEAD + "\n".join(_tool_line(tool) for tool in tools) + _TOOLS_TAIL
            if len(self._tools) >= self._memo_max:
                del self._tools[next(iter(self._tools))]
            self._tools[key] = text
        return text


def message_text(message: dict[str, Any]) -> str:
    """What the template prints of a message: reasoning, content, tool calls; a tool result names
    its function if the client does."""
    text = content_text(message.get("content"))
    reasoning = message.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        text = f"<think>\n{reasoning}\n</think>\n\n{text}"
    name = message.get("name")
    if message["role"] == "tool" and isinstance(name, str) and name:
        text = f"{name}: {text}"
    calls = message.get("tool_calls")
    if calls:
        printed = "\n".join(tool_call_text(call["function"]) for call in calls)
        text = f"{text}\n{printed}" if text else printed
    return text


def without_billing(text: str) -> str:
    """The text of a system prompt without the first line if that is a billing header."""
    return text.partition("\n")[2] if text.startswith(BILLING_HEADER) else text


def content_text(content: object) -> str:
    """Text of a content: a string, or text parts joined with a newline; null parts are skipped."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    assert isinstance(content, list), "content was validated"
    texts = (part if isinstance(part, str) else part.get("text") for part in content)
    return "\n".join(text for text in texts if isinstance(text, str))


def tool_call_text(function: dict[str, Any]) -> str:
    """A call as the model prints it. Arguments are parsed and dumped again, so only their white
    space is lost; what is not a JSON object becomes {}."""
    arguments: object = None
    with suppress(ValueError):
        arguments = json.loads(function.get("arguments") or "{}")
    printed = _dumps(arguments if isinstance(arguments, dict) else {})
    return (
        f'<tool_call>\n{{"name": {_dumps(function["name"])}, "arguments": {printed}}}\n</tool_call>'
    )


def _tool_line(tool: dict[str, Any]) -> str:
    function = tool["function"]
    shown: dict[str, Any] = {
        "name": function.get("name"),
        "description": function.get("description"),
        "parameters": function.get("parameters"),
    }
    if function.get("strict") is not None:
        shown["strict"] = function["strict"]
    return _dumps({"type": tool.get("type", "function"), "function": shown})


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
