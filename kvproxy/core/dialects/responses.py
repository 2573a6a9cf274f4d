"""/v1/responses: instructions and items, as the chat messages that an engine makes of them.

An item is a message, a function call, the output of one, or reasoning; ids, status and summaries
beside a content are invisible to the model. Items behind a `previous_response_id` go on from what a
replica keeps of that response.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.dialects.base import UnknownShapeError
from kvproxy.core.dialects.openai_shapes import ResponsesErrors
from kvproxy.core.dialects.prompt import (
    NOTHING,
    Call,
    arguments,
    cleaned,
    frame,
    media,
    message,
    parts,
    place,
    text_where,
    valued,
)
from kvproxy.core.dialects.tools import Tool, tools
from kvproxy.core.parted import Elements
from kvproxy.core.segments import Segment
from kvproxy.core.spans import Span
from kvproxy.core.unprinted import EFFORT
from kvproxy.core.volatile import Where

_TEXT_PARTS = ("input_text", "output_text", "text", "refusal", "reasoning_text", "summary_text")
_CALLS = ("function_call", "custom_tool_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Item(msgspec.Struct):
    type: str = "message"
    role: str = ""
    content: str | list[dict[str, Any]] | None = None
    summary: list[_Part] | None = None
    call_id: str | None = None
    namespace: str | None = None
    name: str = ""
    arguments: str = ""
    input: str = ""
    output: str | list[dict[str, Any]] | None = None


class _Tool(msgspec.Struct, tag_field="type", tag="function"):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None
    defer_loading: bool | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


_ITEM = msgspec.json.Decoder(_Item)
_TEXT = msgspec.json.Decoder(str)
_TOOLS = msgspec.json.Decoder(list[_Tool])
_REASONING = msgspec.json.Decoder(_Reasoning)


class Responses(ResponsesErrors):
    name = "responses"
    head_members = (
        "cache_salt",
        "chat_template_kwargs",
        "reasoning",
        "instructions",
        "input",
        "tools",
    )
    growing = "input"
    continues = "previous_response_id"
    begins = b""
    listing = None
    # Written before the engine is asked, and as long as the prompt: they repeat the instructions.
    preamble = (b"response.created", b"response.in_progress", b"response.queued")

    def part(self, name: str, member: Span, edits: Edits) -> list[Segment]:
        if member.raw in NOTHING:
            return []
        try:
            if name == "input":
                return _segments(member, edits)
            if name == "instructions":
                given = [_TEXT.decode(member.raw)]
                [text] = cleaned(Where.SYSTEM, given, member, (), edits)
                return [message("system", [(text or "").encode()])]
            if name == "tools":
                return tools(member, _declared(member), ("parameters",), edits)
            if name == "reasoning":
                effort = _REASONING.decode(member.raw).effort
                return valued(EFFORT, effort, edits) if effort else []
            return frame(name, member, edits)
        except msgspec.ValidationError as error:
            raise UnknownShapeError(f"{name}: {error}") from error

    def leads(self, element: Span) -> bool:
        """Codex sends its developer message as the first item, or instructions, or both."""
        text = element.raw.startswith(b'"')
        return not text and _item(element).role in ("system", "developer")

    def items(self, elements: Elements, edits: Edits) -> Iterator[list[Segment]]:
        return (_segments(element, edits) for element in elements)


def _segments(element: Span, edits: Edits) -> list[Segment]:
    if element.raw.startswith(b'"'):
        return [message("user", [_TEXT.decode(element.raw).encode()])]
    item = _item(element)
    if item.type in _CALLS:
        return [message("assistant", [], calls=[_call(item, element, edits)], edits=edits)]
    if item.type in _OUTPUTS:
        contents = _content(item.output)
        return [message("tool", contents, tool_call_id=item.call_id, edits=edits)]
    if item.type == "reasoning":
        thought = _content(item.content) or [
            (part.text or "").encode() for part in item.summary or ()
        ]
        reasoning = thought[0].decode() if thought else ""
        return [message("assistant", [], reasoning=reasoning, edits=edits)]
    if item.type == "message" and item.role:
        return [message(item.role, _message_content(item, element, edits))]
    return [message(item.type, [media(msgspec.json.decode(element.raw))])]


def _item(element: Span) -> _Item:
    try:
        return _ITEM.decode(element.raw)
    except msgspec.ValidationError as error:
        raise UnknownShapeError(f"input item: {error}") from error


def _message_content(item: _Item, element: Span, edits: Edits) -> list[bytes]:
    content, where = item.content, text_where(item.role)
    if isinstance(content, str):
        [text] = cleaned(where, [content], element, ("content",), edits)
        return [(text or "").encode()]
    return parts(content or (), _TEXT_PARTS, where, element, edits)


def _content(content: str | list[dict[str, Any]] | None) -> list[bytes]:
    if not content:
        return []
    if isinstance(content, str):
        return [content.encode()]
    return [
        part["text"].encode()
        if part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str)
        else media(part)
        for part in content
    ]


def _call(item: _Item, element: Span, edits: Edits) -> Call:
    """Arguments are JSON inside a string; the input of a custom tool is any text."""
    name = f"{item.namespace}.{item.name}" if item.namespace else item.name
    if item.type == "custom_tool_call":
        return Call(item.call_id, name, item.input.encode())
    given = item.arguments.encode()
    canonical, forward, why = arguments(given, edits)
    if forward != given:
        span = place(element, ("arguments",))
        if span is not None:
            edits.replace(span, msgspec.json.encode(forward.decode()), why)
    return Call(item.call_id, name, canonical)


def _declared(member: Span) -> list[Tool] | None:
    try:
        given = _TOOLS.decode(member.raw)
    except msgspec.ValidationError:
        return None
    return [
        Tool(
            ["function", each.name, each.description],
            bytes(each.parameters),
            [each.strict, each.defer_loading],
        )
        for each in given
    ]
