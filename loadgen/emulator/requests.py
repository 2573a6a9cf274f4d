"""Bodies of chat and completion requests, read and checked as vLLM checks them, into `Call`s.

Unknown fields are ignored, and so are those that ask for what a stand-in has not: logits.
"""

from dataclasses import dataclass
from typing import Any

from loadgen.emulator import errors
from loadgen.emulator.fields import field, required, typed


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The function the model has to call, or may: `name` None leaves the choice to the model."""

    mode: str  # none | auto | required
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """What all requests for text have in common; `max_tokens` None asks for as many as fit, and
    with `may_end` it is a bound that clients set far away; `count` is the number of answers to
    each prompt."""

    model: str | None
    max_tokens: int | None
    temperature: float = 1.0
    top_p: float = 1.0
    count: int = 1
    ignore_eos: bool = False
    min_tokens: int = 0
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    return_token_ids: bool = False
    echo: bool = False
    cache_salt: str = ""
    session_id: str = ""
    may_end: bool = False
    max_tokens_name: str = "max_tokens"

    def __post_init__(self) -> None:
        _check_sampling(self)


@dataclass(frozen=True, slots=True)
class ChatCall:
    """`generation_prompt` opens an answer, `continues` leaves the last message open instead."""

    sampling: Sampling
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    tool_choice: ToolChoice
    generation_prompt: bool = True
    continues: bool = False


@dataclass(frozen=True, slots=True)
class CompletionCall:
    sampling: Sampling
    prompts: list[str | list[int]]


def chat_call(fields: dict[str, Any]) -> ChatCall:
    """A /v1/chat/completions (or /tokenize with messages) body."""
    messages = _messages(fields)
    tools = _tools(fields)
    continues = field(fields, "continue_final_message", bool, False)
    generation_prompt = field(fields, "add_generation_prompt", bool, True)
    if continues and generation_prompt:
        raise errors.refused(
            "continue_final_message and add_generation_prompt are not compatible. Use "
            "continue_final_message when you want the model to continue the final message, and "
            "add_generation_prompt when you want to add a header that will prompt it to start a "
            "new assistant message instead."
        )
    max_tokens = field(fields, "max_tokens", int, None)
    return ChatCall(
        sampling=_sampling(fields, field(fields, "max_completion_tokens", int, max_tokens)),
        messages=messages,
        tools=tools,
        tool_choice=_tool_choice(fields, tools),
        generation_prompt=generation_prompt,
        continues=continues,
    )


def completion_call(fields: dict[str, Any]) -> CompletionCall:
    """A /v1/completions body."""
    sampling = _sampling(fields, field(fields, "max_tokens", int, 16))
    return CompletionCall(sampling=sampling, prompts=prompts_of(fields))


def prompts_of(fields: dict[str, Any]) -> list[str | list[int]]:
    """Field `prompt`: a string, token ids, or a list of either."""
    prompt = fields.get("prompt")
    many = isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], (str, list))
    prompts = prompt if many else [prompt]
    assert isinstance(prompts, list)
    for each in prompts:
        is_ids = isinstance(each, list) and all(type(token) is int for token in each)
        if not each or not (isinstance(each, str) or is_ids):
            text = "Either prompt or prompt_embeds must be provided and non-empty."
            raise errors.refused(text, "prompt")
    return prompts


def cache_salt_of(fields: dict[str, Any]) -> str:
    salt: str | None = field(fields, "cache_salt", str, None)
    if salt == "":
        text = "Parameter 'cache_salt' must be a non-empty string if provided."
        raise errors.refused(text, "cache_salt")
    return salt or ""


def session_id_of(fields: dict[str, Any]) -> str:
    extra = field(fields, "vllm_xargs", dict, {}).get("session_id")
    session: str = field(fields, "session_id", str, extra if isinstance(extra, str) else "")
    return session


def _sampling(fields: dict[str, Any], max_tokens: int | None) -> Sampling:
    stream = field(fields, "stream", bool, False)
    options = field(fields, "stream_options", dict, {})
    if options and not stream:
        text = "Stream options can only be defined when `stream=True`."
        raise errors.refused(text, "stream_options")
    include_usage = bool(options.get("include_usage"))
    return Sampling(
        model=field(fields, "model", str, None),
        max_tokens=max_tokens,
        temperature=field(fields, "temperature", float, 1.0),
        top_p=field(fields, "top_p", float, 1.0),
        count=field(fields, "n", int, 1),
        ignore_eos=field(fields, "ignore_eos", bool, False),
        min_tokens=field(fields, "min_tokens", int, 0),
        stream=stream,
        include_usage=include_usage,
        continuous_usage=include_usage and bool(options.get("continuous_usage_stats")),
        return_token_ids=field(fields, "return_token_ids", bool, False),
        echo=field(fields, "echo", bool, False),
        cache_salt=cache_salt_of(fields),
        session_id=session_id_of(fields),
    )


def _check_sampling(sampling: Sampling) -> None:
    temperature, top_p, count = sampling.temperature, sampling.top_p, sampling.count
    if count < 1:
        raise errors.refused(f"n must be at least 1, got {count}.")
    if temperature < 0:
        text = f"temperature must be non-negative, got {temperature}."
        raise errors.refused(text, "temperature", temperature)
    if not 0 < top_p <= 1:
        raise errors.refused(f"top_p must be in (0, 1], got {top_p}.", "top_p", top_p)
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        text = f"max_tokens must be at least 1, got {sampling.max_tokens}."
        raise errors.refused(text, "max_tokens", sampling.max_tokens)
    if sampling.max_tokens is not None and sampling.min_tokens > sampling.max_tokens:
        raise errors.refused(
            f"min_tokens must be less than or equal to max_tokens={sampling.max_tokens}, "
            f"got {sampling.min_tokens}."
        )
    if count > 1 and temperature == 0:
        raise errors.refused(f"n must be 1 when using greedy sampling, got {count}.")


def _messages(fields: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = required(fields, "messages", list)
    if not messages:
        raise errors.refused(
            "Cannot apply chat template to an empty conversation. Provide at least one message."
        )
    for index, message in enumerate(messages):
        _check_message(message, f"body.messages.{index}")
    return messages


def _check_message(given: object, at: str) -> None:
    message: dict[str, Any] = typed(given, dict, at)
    required(message, "role", str, at)
    if "name" in message:
        typed(message["name"], str, f"{at}.name")
    content = message.get("content")
    if not isinstance(content, list):
        field(message, "content", str, None, at)
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, str):
            typed(part, dict, f"{at}.content")
    for index, call in enumerate(field(message, "tool_calls", list, [], at)):
        where = f"{at}.tool_calls.{index}"
        function = required(typed(call, dict, where), "function", dict, where)
        required(function, "name", str, f"{where}.function")
        field(function, "arguments", str, None, f"{where}.function")


def _tools(fields: dict[str, Any]) -> list[dict[str, Any]]:
    tools: list[Any] = field(fields, "tools", list, [])
    if fields.get("tools") == []:
        raise errors.refused(
            "`tools` must not be an empty array. Either provide at least one tool or omit the "
            "field entirely.",
            "tools",
        )
    for index, tool in enumerate(tools):
        at = f"body.tools.{index}"
        function = required(typed(tool, dict, at), "function", dict, at)
        required(function, "name", str, f"{at}.function")
    return tools


def _tool_choice(fields: dict[str, Any], tools: list[dict[str, Any]]) -> ToolChoice:
    choice = fields.get("tool_choice")
    if choice is None:
        return ToolChoice("auto" if tools else "none")
    if choice == "none":
        return ToolChoice("none")
    if not tools:
        raise errors.refused("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if choice in ("auto", "required"):
        return ToolChoice(choice)
    function = choice.get("function") if isinstance(choice, dict) else None
    if not isinstance(function, dict):
        raise errors.refused(
            f"Invalid value for `tool_choice`: {choice}! Only named tools, "
            '"none", "auto" or "required" are supported.',
            "tool_choice",
        )
    name = function.get("name")
    if name not in [tool["function"]["name"] for tool in tools]:
        text = "The tool specified in `tool_choice` does not match any of the specified `tools`"
        raise errors.refused(text, "tool_choice")
    return ToolChoice("required", name)
