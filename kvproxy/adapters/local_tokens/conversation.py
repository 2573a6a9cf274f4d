"""What vLLM hands to a chat template, from the body of a chat request.

Message members that it does not know vanish, tools have its own order of members, arguments are
parsed. What is rendered in ways that cannot be told from here (media, a template of the request's
own, an answer to be continued) is UnlikeError: then the engine has to be asked.
"""

import json
from typing import Any, NamedTuple

_KEPT = ("tool_call_id", "name", "task")
_TEXTS = frozenset({"text", "input_text", "output_text", "refusal", "thinking"})
_UNSUPPORTED = ("chat_template", "continue_final_message", "mm_processor_kwargs", "prompt_embeds")


class UnlikeError(ValueError):
    """A request that is rendered in a way of its own."""


class Conversation(NamedTuple):
    """Arguments of a template."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    extra: dict[str, Any]


def conversation(body: dict[str, Any], *, parts: bool) -> Conversation:
    """`parts`: the template reads content as a list of parts. Raises UnlikeError."""
    if any(body.get(name) for name in _UNSUPPORTED) or not isinstance(body.get("messages"), list):
        raise UnlikeError("it is rendered in a way of its own")
    tools = body.get("tools")
    extra = {"add_generation_prompt": body.get("add_generation_prompt", True)}
    if body.get("documents") is not None:
        extra["documents"] = body["documents"]
    effort = body.get("reasoning_effort")
    if effort is not None:
        extra |= {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    extra |= body.get("chat_template_kwargs") or {}
    messages = [_message(message, parts=parts) for message in body["messages"]]
    return Conversation(messages, [_tool(tool) for tool in tools] if tools else None, extra)


def _message(given: dict[str, Any], *, parts: bool) -> dict[str, Any]:
    role = given.get("role")
    if not isinstance(role, str):
        raise UnlikeError("a message has no role")
    message = {"role": role, "content": _content(given, role, parts=parts)}
    calls = given.get("tool_calls")
    if role == "assistant" and calls:
        message["tool_calls"] = [_call(call) for call in calls]
    reasoning = given.get("reasoning") or given.get("reasoning_content")
    if role == "assistant" and reasoning:
        message |= {"reasoning": reasoning, "reasoning_content": reasoning}
    return message | {name: given[name] for name in _KEPT if isinstance(given.get(name), str)}


def _content(given: dict[str, Any], role: str, *, parts: bool) -> Any:
    content = given.get("content")
    if content is None or isinstance(content, str):
        texts = [] if content is None else [content]
        plain = True
    else:
        texts = [_text(part) for part in content]
        plain = False
    if parts and role != "tool":
        return [{"type": "text", "text": text} for text in texts]
    if plain:
        return content if role == "assistant" and content is None else content or ""
    return "\n".join(texts)


def _text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") not in _TEXTS:
        raise UnlikeError("a message has media")
    text = part.get("text")
    if not isinstance(text, str):
        raise UnlikeError("a part of a message has no text")
    return text


def _call(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("function"), dict):
        raise UnlikeError("a call without a function")
    function = dict(given["function"])
    function["arguments"] = _arguments(function.get("arguments"))
    return given | {"function": function}


def _arguments(given: Any) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    try:
        parsed = json.loads(given) if isinstance(given, str) else {}
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _tool(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("function"), dict):
        raise UnlikeError("a tool without a function")
    declared = given["function"]
    function = {name: declared.get(name) for name in ("name", "description", "parameters")}
    more = {name: declared[name] for name in ("strict", "defer_loading") if declared.get(name)
            is not None}  # fmt: skip
    tool = {"type": given.get("type", "function"), "function": function | more}
    if given.get("defer_loading") is not None:
        tool["defer_loading"] = given["defer_loading"]
    return tool
