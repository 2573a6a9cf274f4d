"""Bodies of requests, read and checked as vLLM checks them, into `Call`s.

Unknown fields are ignored. What the emulator does not do (several choices, beams) is refused.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from loadgen.chat_template import ROLES
from loadgen.emulator import errors


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The function the model has to call, or may: `name` None leaves the choice to the model."""

    mode: str  # none | auto | required
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """What chat and completion requests have in common."""

    model: str | None
    max_tokens: int | None
    ignore_eos: bool
    min_tokens: int
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    cache_salt: str


@dataclass(frozen=True, slots=True)
class ChatCall:
    sampling: Sampling
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    tool_choice: ToolChoice
    generation_prompt: bool


@dataclass(frozen=True, slots=True)
class CompletionCall:
    sampling: Sampling
    prompt: str | list[int]


def read_object(body: bytes, content_type: str) -> dict[str, Any]:
    """The JSON object of a body; raises ApiError if it is none or is not sent as JSON."""
    if content_type != "application/json":
        raise errors.wrong_content_type()
    if not body:
        raise errors.missing("body", None)
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise errors.invalid_json(body) from error
    if not isinstance(fields, dict):
        text = "Input should be a valid dictionary or object to extract fields from"
        raise errors.validation_error("model_attributes_type", "body", text, fields)
    return fields


def chat_call(fields: dict[str, Any]) -> ChatCall:
    """A /v1/chat/completions (or /tokenize with messages) body."""
    messages = _messages(fields)
    tools = _tools(fields)
    return ChatCall(
        sampling=_sampling(fields, chat=True),
        messages=messages,
        tools=tools,
        tool_choice=_tool_choice(fields, tools),
        generation_prompt=_field(fields, "add_generation_prompt", bool, True),
    )


def completion_call(fields: dict[str, Any]) -> CompletionCall:
    """A /v1/completions body: one prompt, as text or token ids."""
    return CompletionCall(sampling=_sampling(fields, chat=False), prompt=prompt_of(fields))


def prompt_of(fields: dict[str, Any]) -> str | list[int]:
    """Field `prompt`: a string, a list of one string, token ids, or a list of one such list."""
    prompt = fields.get("prompt")
    if prompt is None:
        raise errors.missing("body.prompt", fields)
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list)):
        if len(prompt) > 1:
            raise errors.bad_value("prompt", "only one prompt is served at a time.", len(prompt))
        prompt = prompt[0]
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return prompt
    if isinstance(prompt, str) and prompt:
        return prompt
    raise errors.bad_value("prompt", "Either prompt or prompt_embeds must be provided.", "")


def _sampling(fields: dict[str, Any], *, chat: bool) -> Sampling:
    temperature = _field(fields, "temperature", float, 1.0)
    if temperature < 0:
        text = f"temperature must be non-negative, got {temperature}."
        raise errors.bad_value("temperature", text, temperature)
    if _field(fields, "n", int, 1) != 1:
        raise errors.bad_value("n", "n must be 1.", fields["n"])
    stream = _field(fields, "stream", bool, False)
    options = _field(fields, "stream_options", dict, {})
    if options and not stream:
        text = "Stream options can only be defined when `stream=True`."
        raise errors.bad_value("stream_options", text, options)
    max_tokens = _field(fields, "max_tokens", int, None)
    if chat:
        max_tokens = _field(fields, "max_completion_tokens", int, max_tokens)
    if max_tokens is not None and max_tokens < 1:
        text = f"max_tokens must be at least 1, got {max_tokens}."
        raise errors.bad_value("max_tokens", text, max_tokens)
    include_usage = bool(options.get("include_usage"))
    return Sampling(
        model=_field(fields, "model", str, None),
        max_tokens=max_tokens,
        ignore_eos=_field(fields, "ignore_eos", bool, False),
        min_tokens=_field(fields, "min_tokens", int, 0),
        stream=stream,
        include_usage=include_usage,
        continuous_usage=include_usage and bool(options.get("continuous_usage_stats")),
        return_token_ids=_field(fields, "return_token_ids", bool, False),
        cache_salt=_field(fields, "cache_salt", str, ""),
    )


_TYPE_ERRORS = {
    bool: ("bool_type", "Input should be a valid boolean"),
    int: ("int_type", "Input should be a valid integer"),
    float: ("float_type", "Input should be a valid number"),
    str: ("string_type", "Input should be a valid string"),
    list: ("list_type", "Input should be a valid list"),
    dict: ("dict_type", "Input should be a valid dictionary"),
}


def _field(fields: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    """A field of a type; absent and null mean `default`."""
    value = fields.get(name)
    if value is None:
        return default
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise errors.validation_error(*_type_error(kind, name), value)
    return value


def _type_error(kind: type, name: str) -> tuple[str, str, str]:
    code, text = _TYPE_ERRORS[kind]
    return code, f"body.{name}", text


def _messages(fields: dict[str, Any]) -> list[dict[str, Any]]:
    if "messages" not in fields:
        raise errors.missing("body.messages", fields)
    messages: list[dict[str, Any]] = _field(fields, "messages", list, None)
    if not messages:
        raise errors.bad_value("messages", "messages must not be empty.", messages)
    for index, message in enumerate(messages):
        _check_message(message, f"messages.{index}")
    return messages


def _check_message(message: object, at: str) -> None:
    if not isinstance(message, dict):
        raise errors.validation_error(*_type_error(dict, at), message)
    if "role" not in message:
        raise errors.missing(f"body.{at}.role", message)
    if message["role"] not in ROLES:
        text = f"Input should be one of {sorted(ROLES)}"
        raise errors.validation_error("literal_error", f"body.{at}.role", text, message["role"])
    content = message.get("content")
    if not isinstance(content, (str, list, type(None))):
        raise errors.validation_error(*_type_error(str, f"{at}.content"), content)
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, (str, dict)):
            raise errors.validation_error(*_type_error(dict, f"{at}.content"), part)
    for call in _field(message, "tool_calls", list, []):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise errors.missing(f"body.{at}.tool_calls.function", call)
        if not isinstance(function.get("arguments", ""), str):
            where = f"{at}.tool_calls.function.arguments"
            raise errors.validation_error(*_type_error(str, where), function["arguments"])


def _tools(fields: dict[str, Any]) -> list[dict[str, Any]]:
    tools: list[Any] = _field(fields, "tools", list, [])
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict):
            raise errors.missing(f"body.tools.{index}.function", tool)
        if not isinstance(function.get("name"), str):
            raise errors.missing(f"body.tools.{index}.function.name", function)
    return tools


def _tool_choice(fields: dict[str, Any], tools: list[dict[str, Any]]) -> ToolChoice:
    choice = fields.get("tool_choice")
    if choice is None:
        return ToolChoice("auto" if tools else "none")
    if choice == "none":
        return ToolChoice("none")
    if not tools:
        raise errors.bad_value("tool_choice", "When using `tool_choice`, `tools` must be set.", "")
    if choice in ("auto", "required"):
        return ToolChoice(choice)
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if name not in [tool["function"]["name"] for tool in tools]:
        text = "The tool specified in `tool_choice` does not match any of the specified `tools`."
        raise errors.bad_value("tool_choice", text, name)
    return ToolChoice("required", name)
