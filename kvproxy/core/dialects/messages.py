"""/v1/messages: Anthropic's blocks, as the chat messages that an engine makes of them.

Blocks of the system text are joined; a tool result in a user's message becomes a message of its own
before the rest of it; thinking becomes reasoning. Signatures, redacted thinking, cache_control and
members the engine does not know are invisible to the model.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.dialects.anthropic_shapes import AnthropicErrors
from kvproxy.core.dialects.base import UnknownShapeError
from kvproxy.core.dialects.prompt import (
    NOTHING,
    Among,
    Call,
    Path,
    arguments,
    cleaned,
    frame,
    media,
    message,
    text_where,
    valued,
)
from kvproxy.core.dialects.tools import Tool, tools
from kvproxy.core.parted import Elements, decoded
from kvproxy.core.segments import Segment
from kvproxy.core.spans import Located, Span
from kvproxy.core.unprinted import EFFORT

_NO_INPUT = msgspec.Raw(b"{}")


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = _NO_INPUT
    tool_use_id: str | None = None
    content: str | list[dict[str, Any]] | None = None
    source: dict[str, Any] | None = None
    tool: Any = None
    cache_control: Any = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Tool(msgspec.Struct):
    name: str
    input_schema: msgspec.Raw
    description: str | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    cache_control: Any = None


class _Thinking(msgspec.Struct):
    type: str = ""


class _OutputConfig(msgspec.Struct):
    effort: str | None = None


_MESSAGE = msgspec.json.Decoder(_Message)
_MESSAGES = msgspec.json.Decoder(list[_Message])
_SYSTEM = msgspec.json.Decoder(str | list[_Block])
_TOOLS = msgspec.json.Decoder(list[_Tool])
_THINKING = msgspec.json.Decoder(_Thinking)
_OUTPUT_CONFIG = msgspec.json.Decoder(_OutputConfig)


class Messages(AnthropicErrors):
    name = "messages"
    head_members = (
        "cache_salt",
        "chat_template_kwargs",
        "thinking",
        "output_config",
        "system",
        "tools",
    )
    growing = "messages"
    continues = ""
    begins = b'{"role"'
    listing = _MESSAGES
    preamble = ()

    def part(self, name: str, member: Span, edits: Edits) -> list[Segment]:
        try:
            if name == "system":
                return _system(member, edits)
            if name == "tools":
                return tools(member, _declared(member), ("input_schema",), edits)
            return _frame(name, member, edits)
        except msgspec.ValidationError as error:
            raise UnknownShapeError(f"{name}: {error}") from error

    def leads(self, element: Span) -> bool:
        return False

    def items(self, elements: Elements, edits: Edits) -> Iterator[list[Segment]]:
        try:
            for given, element in decoded(elements, _MESSAGE, _MESSAGES):
                yield _segments(given, element, edits)
        except msgspec.ValidationError as error:
            raise UnknownShapeError(f"message: {error}") from error


def _segments(given: _Message, element: Located, edits: Edits) -> list[Segment]:
    texts = _texts(given.role, given.content, element, ("content",), edits)
    if isinstance(given.content, str) or given.role == "system":
        return _joined(given.role, texts)
    return _blocks(given.role, given.content, texts, element, edits)


def _system(member: Span, edits: Edits) -> list[Segment]:
    if member.raw in NOTHING:
        return []
    return _joined("system", _texts("system", _SYSTEM.decode(member.raw), member, (), edits))


def _joined(role: str, texts: Sequence[str | None]) -> list[Segment]:
    return [message(role, ["".join(text or "" for text in texts).encode()])]


def _texts(
    role: str, content: str | list[_Block], at: Located, path: Path, edits: Edits
) -> list[str | None]:
    if isinstance(content, str):
        return cleaned(text_where(role), [content], at, path, edits)
    texts = cleaned(text_where(role), [block.text for block in content], at, path, edits)
    inside = Among(at, path)
    for index, block in enumerate(content):
        if block.cache_control is not None:
            edits.mark(block.cache_control, partial(inside.place, index))
    return texts


def _frame(name: str, member: Span, edits: Edits) -> list[Segment]:
    """Switched-off thinking and effort reach a template as its reasoning effort."""
    if member.raw in NOTHING:
        return []
    if name == "thinking":
        off = _THINKING.decode(member.raw).type == "disabled"
        return valued(EFFORT, "none", edits) if off else []
    if name == "output_config":
        effort = _OUTPUT_CONFIG.decode(member.raw).effort
        return valued(EFFORT, effort, edits) if effort else []
    return frame(name, member, edits)


def _declared(member: Span) -> list[Tool] | None:
    if member.raw in NOTHING:
        return []
    try:
        given = _TOOLS.decode(member.raw)
    except msgspec.ValidationError:
        return None
    return [
        Tool(
            ["function", each.name, each.description],
            bytes(each.input_schema),
            [each.strict, each.defer_loading],
            (each.cache_control,),
        )
        for each in given
    ]


def _blocks(
    role: str,
    blocks: Sequence[_Block],
    texts: Sequence[str | None],
    element: Located,
    edits: Edits,
) -> list[Segment]:
    """`texts` are those of the blocks as they are forwarded."""
    contents: list[bytes] = []
    calls: list[Call] = []
    results: list[Segment] = []
    thinking = ""
    inside = Among(element, ("content",))
    for index, block in enumerate(blocks):
        if block.type == "text":
            contents += [text.encode()] if (text := texts[index]) else []
        elif block.type == "thinking":
            thinking += block.thinking or ""
        elif block.type == "tool_use":
            calls.append(_call(block, partial(inside.place, index, "input"), edits))
        elif block.type == "tool_result" and role == "user":
            results.append(_result(block, edits))
        elif block.type not in ("redacted_thinking", "tool_reference"):
            contents.append(media([block.type, block.source, block.content, block.tool]))
    if contents or role != "user":
        results.append(message(role, contents, reasoning=thinking, calls=calls, edits=edits))
    return results


def _result(block: _Block, edits: Edits) -> Segment:
    """Texts of a result are joined by line breaks, as the engine does."""
    if not isinstance(block.content, list):
        text = (block.content or "").encode()
        return message("tool", [text], tool_call_id=block.tool_use_id, edits=edits)
    texts = [str(part.get("text", "")) for part in block.content if part.get("type") == "text"]
    others = [media(part) for part in block.content if part.get("type") != "text"]
    contents = ["\n".join(texts).encode(), *others]
    return message("tool", contents, tool_call_id=block.tool_use_id, edits=edits)


def _call(block: _Block, where: Callable[[], Located | None], edits: Edits) -> Call:
    given = bytes(block.input)
    canonical, forward, why = arguments(given, edits)
    if forward != given:
        span = where()
        if span is not None:
            edits.replace(span, forward, why)
    return Call(block.id, block.name or "", canonical)
