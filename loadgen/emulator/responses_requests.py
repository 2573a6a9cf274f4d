"""Bodies of /v1/responses, turned into chat requests as vLLM turns them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadgen.emulator import errors
from loadgen.emulator.fields import field, required, typed
from loadgen.emulator.requests import (
    ChatCall,
    Sampling,
    ToolChoice,
    cache_salt_of,
    session_id_of,
)

_CALLS = ("function_call", "custom_tool_call")
_RESULTS = ("function_call_output", "custom_tool_call_output")
# What a tool that takes free text looks like to the model.
_FREE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}


@dataclass(frozen=True, slots=True)
class ResponsesCall:
    """`fields` are the body, of which an answer repeats much; `store` keeps the answer."""

    chat: ChatCall
    fields: dict[str, Any]
    store: bool


def responses_call(fields: dict[str, Any], earlier: Sequence[dict[str, Any]] = ()) -> ResponsesCall:
    """A /v1/responses body; `earlier` are the messages of the response that it continues, with
    what was answered to them."""
    if not fields.get("tools"):
        fields = fields | {"tool_choice": "none"}
    given = fields.get("input")
    if not isinstance(given, str):
        given = required(fields, "input", list)
    messages = [{"role": "system", "content": text} for text in _instructions(fields)]
    messages += [message for message in earlier if message["role"] != "system"]
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    else:
        messages += _converted(given)
    tools = _function_tools(field(fields, "tools", list, []))
    sampling = Sampling(
        model=field(fields, "model", str, None),
        max_tokens=field(fields, "max_output_tokens", int, None),
        max_tokens_name="max_output_tokens",
        may_end=True,
        temperature=field(fields, "temperature", float, 1.0),
        top_p=field(fields, "top_p", float, 1.0),
        ignore_eos=field(fields, "ignore_eos", bool, False),
        stream=field(fields, "stream", bool, False),
        cache_salt=cache_salt_of(fields),
        session_id=session_id_of(fields),
    )
    choice = _tool_choice(fields, tools)
    store = field(fields, "store", bool, True)
    return ResponsesCall(ChatCall(sampling, messages, tools, choice), fields, store)


def _instructions(fields: dict[str, Any]) -> list[str]:
    text = field(fields, "instructions", str, "")
    return [text] if text else []


def _converted(items: list[Any]) -> list[dict[str, Any]]:
    """What the assistant thought, said and called one after the other is one message."""
    out: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        at = f"body.input.{index}"
        item = typed(item, dict, at)
        kind = field(item, "type", str, "message", at)
        last = out[-1] if out and out[-1]["role"] == "assistant" else None
        if kind in _CALLS:
            call = _call(item, kind, at)
            if last is None:
                out.append({"role": "assistant", "tool_calls": [call]})
            else:
                last.setdefault("tool_calls", []).append(call)
        elif kind == "reasoning":
            _put(out, last, "reasoning", _thought(item, at))
        elif kind in _RESULTS:
            result = {"role": "tool", "tool_call_id": item.get("call_id")}
            out.append(result | {"content": _content(item, "output", at)})
        elif item.get("role") == "assistant":
            _put(out, last, "content", _said(_content(item, "content", at)))
        elif "role" in item:
            required(item, "role", str, at)
            out.append(item | {"content": _content(item, "content", at)})
        else:
            raise errors.refused(f"Unsupported input item type: {kind}", "input")
    return out


def _put(out: list[dict[str, Any]], last: dict[str, Any] | None, name: str, text: str) -> None:
    if last is not None and last.get(name) is None:
        last[name] = text
    else:
        out.append({"role": "assistant", name: text})


def _content(item: dict[str, Any], name: str, at: str) -> str | list[Any] | None:
    """Text, or parts of it."""
    value = item.get(name)
    if value is None or isinstance(value, str):
        return value
    parts: list[Any] = typed(value, list, f"{at}.{name}")
    for part in parts:
        if not isinstance(part, str):
            field(typed(part, dict, f"{at}.{name}"), "text", str, None, f"{at}.{name}")
    return parts


def _call(item: dict[str, Any], kind: str, at: str) -> dict[str, Any]:
    name = field(item, "name", str, "", at)
    arguments = field(item, "arguments", str, "", at)
    if kind == "custom_tool_call":
        arguments = json.dumps({"input": item.get("input") or ""})
    elif item.get("namespace"):
        name = f"{item['namespace']}__{name}"
    function = {"name": name, "arguments": arguments}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _thought(item: dict[str, Any], at: str) -> str:
    """The first text of the content, else of the summary; what is encrypted cannot be read."""
    if item.get("encrypted_content"):
        raise errors.refused("Encrypted content is not supported.", "input")
    parts = field(item, "content", list, [], at) or field(item, "summary", list, [], at)
    return _said(_content({"parts": parts}, "parts", at))


def _said(content: str | list[Any] | None) -> str:
    """Of several parts the first."""
    if isinstance(content, str):
        return content
    first: Any = content[0] if content else ""
    return first if isinstance(first, str) else first.get("text") or ""


def _function_tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Functions, those in namespaces under their full names, and free-text tools; the model is
    shown no others."""
    out: list[dict[str, Any]] = []
    for index, tool in enumerate(tools):
        at = f"body.tools.{index}"
        kind = required(typed(tool, dict, at), "type", str, at)
        if kind == "function":
            out.append(_function(tool, required(tool, "name", str, at)))
        elif kind == "custom":
            shown = tool | {"parameters": _FREE_TEXT}
            out.append(_function(shown, required(tool, "name", str, at)) | {"custom": True})
        elif kind == "namespace":
            name = required(tool, "name", str, at)
            for each in field(tool, "tools", list, [], at):
                if typed(each, dict, f"{at}.tools").get("type") == "function":
                    inner = required(each, "name", str, f"{at}.tools")
                    out.append(_function(each, f"{name}__{inner}"))
    return out


def _function(tool: dict[str, Any], name: str) -> dict[str, Any]:
    kept = {key: tool.get(key) for key in ("description", "parameters", "strict")}
    return {"type": "function", "function": {"name": name} | kept}


def _tool_choice(fields: dict[str, Any], tools: list[dict[str, Any]]) -> ToolChoice:
    choice = fields.get("tool_choice") or "auto"
    if not isinstance(choice, str):
        choice = typed(choice, dict, "body.tool_choice")
    if not tools:
        return ToolChoice("none")
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise errors.not_one_of(("none", "auto", "required"), "body.tool_choice", choice)
        return ToolChoice(choice)
    name = choice.get("name")
    if name not in [tool["function"]["name"] for tool in tools]:
        text = "Tool choice 'function' not found in 'tools' parameter."
        raise errors.refused(text, "tool_choice")
    return ToolChoice("required", name)
