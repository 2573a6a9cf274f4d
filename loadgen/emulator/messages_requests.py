"""Bodies of /v1/messages, turned into chat requests as vLLM turns them."""

import json
from typing import Any

from loadgen.chat_template import BILLING_HEADER
from loadgen.emulator import errors
from loadgen.emulator.fields import field, required, typed
from loadgen.emulator.requests import (
    ChatCall,
    Sampling,
    ToolChoice,
    cache_salt_of,
    session_id_of,
)

_ROLES = ("user", "assistant", "system")
_BLOCKS = (
    *("text", "image", "tool_use", "tool_result", "tool_reference", "thinking"),
    *("redacted_thinking", "tool_addition", "tool_removal"),
)
_BLOCK_FIELDS = {
    "text": str, "thinking": str, "id": str, "name": str, "tool_use_id": str, "input": dict,
}  # fmt: skip
_CHOICES = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}


def messages_call(fields: dict[str, Any], *, counts: bool = False) -> ChatCall:
    """A /v1/messages body, or one of its tokens are only to be counted."""
    model = required(fields, "model", str)
    messages = required(fields, "messages", list)
    for index, message in enumerate(messages):
        _check_message(message, f"body.messages.{index}")
    max_tokens = None if counts else required(fields, "max_tokens", int)
    if max_tokens is not None and max_tokens < 1:
        text = "max_tokens must be positive"
        raise errors.validation_error(
            ("value_error", f"Value error, {text}"),
            "body.max_tokens",
            str(max_tokens),
            ctx={"error": ValueError(text)},
        )
    tools = [_tool(tool, f"body.tools.{at}") for at, tool in enumerate(_list(fields, "tools"))]
    stream = field(fields, "stream", bool, False)
    sampling = Sampling(
        model=model,
        max_tokens=max_tokens,
        may_end=True,
        temperature=field(fields, "temperature", float, 1.0),
        top_p=field(fields, "top_p", float, 1.0),
        stream=stream,
        include_usage=stream,
        continuous_usage=stream,
        cache_salt=cache_salt_of(fields),
        session_id=session_id_of({"vllm_xargs": fields.get("vllm_xargs")}),
    )
    choice = _tool_choice(fields, tools)
    return ChatCall(sampling, _system(fields) + _converted(messages), tools, choice)


def _check_message(given: object, at: str) -> None:
    message: dict[str, Any] = typed(given, dict, at)
    if required(message, "role", str, at) not in _ROLES:
        raise errors.not_one_of(_ROLES, f"{at}.role", message["role"])
    content = message.get("content")
    if not isinstance(content, list):
        required(message, "content", str, at)
        return
    for index, block in enumerate(content):
        where = f"{at}.content.{index}"
        kind = required(typed(block, dict, where), "type", str, where)
        if kind not in _BLOCKS:
            raise errors.not_one_of(_BLOCKS, f"{where}.type", kind)
        _check_block(block, where)


def _check_block(block: dict[str, Any], at: str) -> None:
    for name, kind in _BLOCK_FIELDS.items():
        field(block, name, kind, None, at)
    content = block.get("content")
    if not isinstance(content, str):
        for part in field(block, "content", list, [], at):
            field(typed(part, dict, f"{at}.content"), "text", str, None, f"{at}.content")


def _tool(given: object, at: str) -> dict[str, Any]:
    tool: dict[str, Any] = typed(given, dict, at)
    schema = required(tool, "input_schema", dict, at)
    function = {
        "name": required(tool, "name", str, at),
        "description": field(tool, "description", str, None, at),
        "parameters": schema if "type" in schema else schema | {"type": "object"},
        "strict": field(tool, "strict", bool, None, at),
    }
    return {"type": "function", "function": function}


def _tool_choice(fields: dict[str, Any], tools: list[dict[str, Any]]) -> ToolChoice:
    choice = field(fields, "tool_choice", dict, None)
    if choice is None or not tools:
        return ToolChoice("auto" if tools else "none")
    kind = field(choice, "type", str, None, "body.tool_choice")
    if kind not in _CHOICES:
        raise errors.not_one_of(tuple(_CHOICES), "body.tool_choice.type", kind)
    if kind != "tool":
        return ToolChoice(_CHOICES[kind])
    name = choice.get("name")
    if name not in [tool["function"]["name"] for tool in tools]:
        raise errors.refused(f"The tool with name '{name}' is not found in the tools list.")
    return ToolChoice("required", name)


def _system(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Blocks run into each other; a block that begins with a billing header is left out whole."""
    system = fields.get("system")
    if isinstance(system, str):
        text = system
    else:
        for index, block in enumerate(blocks := _list(fields, "system")):
            _check_block(typed(block, dict, f"body.system.{index}"), f"body.system.{index}")
        text = _kept_text(blocks)
    return [{"role": "system", "content": text}] if text else []


def _converted(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "system" and not isinstance(content, str):
            content = _kept_text(content)
        if isinstance(content, str):
            if content or role != "system":
                out.append({"role": role, "content": content})
        else:
            out += _from_blocks(role, content)
    return out


def _from_blocks(role: str, blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of tools become messages of their own, before what else the message says."""
    results: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for block in blocks:
        kind = block["type"]
        if kind == "text" and block.get("text"):
            texts.append({"type": "text", "text": block["text"]})
        elif kind == "thinking" and block.get("thinking") is not None:
            thoughts.append(block["thinking"])
        elif kind == "tool_use":
            arguments = json.dumps(block.get("input") or {})
            function = {"name": block.get("name") or "", "arguments": arguments}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind == "tool_result" and role == "user":
            tool_call_id = block.get("tool_use_id") or ""
            text = _result_text(block.get("content"))
            results.append({"role": "tool", "tool_call_id": tool_call_id, "content": text})
    message: dict[str, Any] = {"role": role}
    if thoughts:
        message["reasoning"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    if texts:
        message["content"] = texts
    return [*results, message] if texts or role != "user" else results


def _result_text(content: object) -> str:
    if isinstance(content, str):
        return content
    items = content if isinstance(content, list) else []
    texts = [item.get("text") or "" for item in items if item.get("type") == "text"]
    return "\n".join(texts)


def _kept_text(blocks: list[dict[str, Any]]) -> str:
    texts = (block.get("text") or "" for block in blocks if block.get("type") == "text")
    return "".join(text for text in texts if not text.startswith(BILLING_HEADER))


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    found: list[Any] = field(fields, name, list, [])
    return found
