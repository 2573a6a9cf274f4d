"""/v1/chat/completions: what of a body reaches the prompt, in the order a template prints it.

Kept: tools, salt, template arguments, and of each message role, name, content, tool calls and
tool_call_id. Message key order, unknown members, nulls, cache_control and white space in argument
strings are invisible to the model, so they are invisible here.
"""

from typing import Any

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.dialects.base import Members, UnknownShapeError
from kvproxy.core.dialects.openai_shapes import stream_error
from kvproxy.core.errors import ProxyError, openai_body
from kvproxy.core.segments import Segment, segment, sorted_json
from kvproxy.core.spans import Span, array_spans, object_spans

# Members outside `messages` and `tools` that change the rendered prompt.
_PROMPT_MEMBERS = (
    "cache_salt",
    "chat_template",
    "chat_template_kwargs",
    "documents",
    "mm_processor_kwargs",
    "reasoning_effort",
)
_TEXT_PARTS = ("text", "input_text", "output_text", "refusal", "thinking")
_NOTHING = (b"null", b"[]")


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_ToolCall] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


_MESSAGE = msgspec.json.Decoder(_Message)
_ANY = msgspec.json.Decoder()


class Chat:
    name = "chat"
    head_members = ("model", "tools", *_PROMPT_MEMBERS)
    growing = "messages"

    def head(self, members: Members, edits: Edits) -> list[Segment]:
        frame = {
            name: _ANY.decode(members[name].raw)
            for name in _PROMPT_MEMBERS
            if name in members and members[name].raw != b"null"
        }
        segments = [segment(frame, [])] if frame else []
        tools = members.get("tools")
        if tools is not None and tools.raw not in _NOTHING:
            segments += [segment("tool", [tool]) for tool in canonical_tools(tools, edits)]
        return segments

    def item(self, element: Span, edits: Edits) -> Segment:
        try:
            message = _MESSAGE.decode(element.raw)
        except msgspec.ValidationError as error:
            raise UnknownShapeError(f"message: {error}") from error
        texts = _content(message.content)
        closing: list[Any] = [len(texts), message.name, message.tool_call_id]
        reasoning = message.reasoning or message.reasoning_content
        if reasoning:
            closing.append("reasoning")
            texts.append(reasoning.encode())
        if message.tool_calls:
            closing.append([call.id for call in message.tool_calls])
            texts += _calls(message.tool_calls, element, edits)
        return segment(message.role, texts, closing)

    def error_body(self, error: ProxyError) -> bytes:
        return openai_body(error)

    def stream_error(self, error: ProxyError) -> bytes:
        return stream_error(error)


def _content(content: str | list[dict[str, Any]] | None) -> list[bytes]:
    """Texts of a message; a list with one text part is the same as the plain string."""
    if not content:
        return [b""]
    if isinstance(content, str):
        return [content.encode()]
    return [_part(part) for part in content]


def _part(part: dict[str, Any]) -> bytes:
    text = part.get("text")
    if part.get("type") in _TEXT_PARTS and isinstance(text, str):
        return text.encode()
    return b"\0" + sorted_json({k: v for k, v in part.items() if k != "cache_control"})


def _calls(calls: list[_ToolCall], element: Span, edits: Edits) -> list[bytes]:
    texts = []
    for index, call in enumerate(calls):
        given = (call.function.arguments or "").encode()
        canonical, forward = _arguments(given, edits)
        texts += [call.function.name.encode(), canonical]
        if forward != given:
            span = _arguments_span(element, index)
            if span is not None:
                edits.replace(span, msgspec.json.encode(forward.decode()), "argument_order")
    return texts


def _arguments(given: bytes, edits: Edits) -> tuple[bytes, bytes]:
    """Arguments are JSON inside a string. What is no JSON object is kept exactly as it is."""
    try:
        parsed = _ANY.decode(given)
        return edits.value(given, parsed) if isinstance(parsed, dict) else (given, given)
    except (msgspec.DecodeError, RecursionError):
        return given, given


def _arguments_span(element: Span, index: int) -> Span | None:
    """Where the arguments string of tool call `index` lies in the body; None if laid out oddly."""
    message = object_spans(element.raw, element.start)
    if message is None:
        return None
    calls = array_spans(message["tool_calls"].raw, message["tool_calls"].start)
    call = object_spans(calls[index].raw, calls[index].start) if calls else None
    function = object_spans(call["function"].raw, call["function"].start) if call else None
    return function.get("arguments") if function else None


def canonical_tools(tools: Span, edits: Edits) -> list[bytes]:
    """Canonical form of each tool, in the order to forward; splices the list where it differs."""
    spans = array_spans(tools.raw, tools.start)
    if spans is None:
        raise UnknownShapeError("tools is not a list")
    canonicals, spellings = [], []
    for span in spans:
        canonical, spelling = edits.value(span.raw, _ANY.decode(span.raw))
        canonicals.append(canonical)
        spellings.append(spelling)
    order = edits.listing(canonicals)
    if order != list(range(len(order))):
        listing = b"[" + b",".join(spellings[i] for i in order) + b"]"
        edits.replace(tools, listing, "tool_order")
        return [canonicals[i] for i in order]
    for span, spelling in zip(spans, spellings, strict=True):
        if spelling != span.raw:
            edits.replace(span, spelling, "schema_order")
    return canonicals
