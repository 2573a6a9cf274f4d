"""One prompt in whatever dialect it came: the segments that all of them are turned into.

An engine converts every dialect to chat messages and renders those with one template, so a
conversation has the same chain whether it is sent as chat messages, Anthropic blocks or items.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.segments import Segment, segment, sorted_json
from kvproxy.core.spans import Span, array_spans, object_spans

_ANY = msgspec.json.Decoder()
NOTHING = (b"null", b"[]", b'""', b"{}")


class Call(NamedTuple):
    """A tool call; `arguments` in canonical form."""

    id: str | None
    name: str
    arguments: bytes


def message(
    role: str,
    contents: Sequence[bytes],
    *,
    name: str | None = None,
    tool_call_id: str | None = None,
    reasoning: str | None = None,
    calls: Sequence[Call] = (),
) -> Segment:
    texts = list(contents) or [b""]
    closing: list[Any] = [len(texts), name, tool_call_id]
    if reasoning:
        closing.append("reasoning")
        texts.append(reasoning.encode())
    if calls:
        closing.append([call.id for call in calls])
        for call in calls:
            texts += [call.name.encode(), call.arguments]
    return segment(role, texts, closing)


def frame(name: str, member: Span) -> list[Segment]:
    """A member that changes the prompt without being text of it, such as template arguments."""
    return [] if member.raw in NOTHING else [segment([name, _ANY.decode(member.raw)], [])]


def media(part: object) -> bytes:
    """What is no text: an image, or something unknown, by its value without cache marks."""
    if isinstance(part, dict):
        part = {key: value for key, value in part.items() if key != "cache_control"}
    return b"\0" + sorted_json(part)


def arguments(given: bytes, edits: Edits) -> tuple[bytes, bytes]:
    """(canonical form, bytes to forward) of the JSON object that a tool is called with.

    What is no JSON object is kept exactly as it is.
    """
    try:
        parsed = _ANY.decode(given)
        return edits.value(given, parsed) if isinstance(parsed, dict) else (given, given)
    except (msgspec.DecodeError, RecursionError):
        return given, given


def place(value: Span, path: Sequence[str | int]) -> Span | None:
    """Where the value at `path` lies inside `value`; None if that is laid out oddly."""
    for step in path:
        if isinstance(step, int):
            elements = array_spans(value.raw, value.start)
            if elements is None:
                return None
            value = elements[step]
        else:
            members = object_spans(value.raw, value.start)
            if members is None or step not in members:
                return None
            value = members[step]
    return value
