"""/v1/chat/completions: what of a body reaches the prompt, in the order a template prints it.

Kept: salt, template arguments, a leading system message, tools, and of each message role, name,
content, tool calls and tool_call_id. Message key order, unknown members, nulls, cache_control and
white space in argument strings are invisible to the model, so they are invisible here.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.dialects.base import UnknownShapeError
from kvproxy.core.dialects.openai_shapes import OpenAiErrors
from kvproxy.core.dialects.prompt import (
    Among,
    Call,
    arguments,
    cleaned,
    frame,
    led,
    message,
    parts,
    text_where,
    unchanged_roles,
)
from kvproxy.core.dialects.tools import Tool, tools
from kvproxy.core.parted import Elements, decoded
from kvproxy.core.segments import Segment, plain, result
from kvproxy.core.spans import Located, Span
from kvproxy.core.unprinted import Trait

# Asking an enumeration for a member takes its time.
_IDS = Trait.IDS
_TEXT_PARTS = ("text", "input_text", "output_text", "refusal", "thinking")


class _CalledFunction(msgspec.Struct):
    name: str = ""
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _CalledFunction
    id: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_ToolCall] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    cache_control: Any = None


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None
    defer_loading: bool | None = None
    cache_control: Any = None


class _Tool(msgspec.Struct):
    type: str
    function: _Function
    cache_control: Any = None


class _Role(msgspec.Struct):
    role: str = ""


_MESSAGE = msgspec.json.Decoder(_Message)
_MESSAGES = msgspec.json.Decoder(list[_Message])
_TOOLS = msgspec.json.Decoder(list[_Tool])
_ROLE = msgspec.json.Decoder(_Role)


class Chat(OpenAiErrors):
    name = "chat"
    # Templates print the system text before the tools.
    head_members = (
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "documents",
        "mm_processor_kwargs",
        "reasoning_effort",
        "messages",
        "tools",
    )
    growing = "messages"
    continues = ""
    begins = b'{"role"'
    listing = _MESSAGES
    preamble = ()

    def part(self, name: str, member: Span, edits: Edits) -> list[Segment]:
        if name == "messages":
            return led(next(self.items([member], edits)), edits)
        if name == "tools":
            return tools(member, _declared(member), ("function", "parameters"), edits)
        return frame(name, member, edits)

    def leads(self, element: Span) -> bool:
        try:
            return _ROLE.decode(element.raw).role in ("system", "developer")
        except msgspec.ValidationError:
            return False

    def items(self, elements: Elements, edits: Edits) -> Iterator[list[Segment]]:
        unchanged = unchanged_roles(edits.cleaned)
        try:
            for given, element in decoded(elements, _MESSAGE, _MESSAGES):
                role, content, call_id = given.role, given.content, given.tool_call_id
                # What nearly all are: nothing but these.
                if (
                    type(content) is str
                    and role in unchanged
                    and given == _Message(role, content, None, call_id)
                ):
                    text = content.encode()
                    if call_id is None or not edits.prints(_IDS):
                        yield [plain(role, text)]
                    else:
                        yield [result(role, text, call_id)]
                else:
                    yield [_segment(given, element, edits)]
        except msgspec.ValidationError as error:
            raise UnknownShapeError(f"message: {error}") from error


def _segment(given: _Message, element: Located, edits: Edits) -> Segment:
    if given.cache_control is not None:
        edits.mark(given.cache_control, lambda: element)
    calls: Sequence[Call] = ()
    if given.tool_calls:
        calls = _calls(given.tool_calls, element, edits)
    return message(
        given.role,
        _content(given, element, edits),
        name=given.name,
        tool_call_id=given.tool_call_id,
        reasoning=given.reasoning or given.reasoning_content,
        calls=calls,
        edits=edits,
    )


def _declared(member: Span) -> list[Tool] | None:
    try:
        given = _TOOLS.decode(member.raw)
    except msgspec.ValidationError:
        return None
    return [
        Tool(
            [tool.type, each.name, each.description],
            bytes(each.parameters),
            [each.strict, each.defer_loading],
            (tool.cache_control, each.cache_control),
        )
        for tool in given
        for each in (tool.function,)
    ]


def _content(given: _Message, element: Located, edits: Edits) -> list[bytes]:
    """Texts of a message; a list with one text part is the same as the plain string."""
    content, where = given.content, text_where(given.role)
    if not content:
        return []
    if isinstance(content, str):
        if where not in edits.cleaned:
            return [content.encode()]
        [text] = cleaned(where, [content], element, ("content",), edits)
        return [(text or "").encode()]
    return parts(content, _TEXT_PARTS, where, element, edits)


def _calls(calls: Sequence[_ToolCall], element: Located, edits: Edits) -> list[Call]:
    """Arguments are JSON inside a string."""
    found = []
    inside: Among | None = None
    for index, call in enumerate(calls):
        function = call.function
        given = (function.arguments or "").encode()
        canonical, forward, why = arguments(given, edits)
        if forward != given:
            inside = inside or Among(element, ("tool_calls",))
            span = inside.place(index, "function", "arguments")
            if span is not None:
                edits.replace(span, msgspec.json.encode(forward.decode()), why)
        found.append(Call(call.id, function.name, canonical))
    return found
