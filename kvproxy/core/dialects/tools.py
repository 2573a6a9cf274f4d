"""The list of declared tools: what a template prints of it, and in which spelling to forward it.

Engines print the facts of a tool in an order of their own, but the keys of its schema and the tools
themselves in the client's. So only those two are ever spliced; what else a tool says passes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.dialects.base import UnknownShapeError
from kvproxy.core.dialects.prompt import NOTHING, Among, Path, place
from kvproxy.core.segments import Segment, segment
from kvproxy.core.spans import Located, Span, array_spans

_ANY = msgspec.json.Decoder()
_ENCODE = msgspec.json.Encoder().encode


class Tool(msgspec.Struct, frozen=True):
    """`facts` in fixed order, the schema as it came, and facts `behind` it, as engines print them.
    A tool without a schema counts as a whole. `marks` are the cache marks of the tool and, where
    that is an object of its own, its function.
    """

    facts: list[Any]
    schema: bytes | None
    behind: Sequence[object] = ()
    marks: Sequence[object] = ()


class _Spelled(msgspec.Struct, frozen=True, gc=False):
    """`new` replaces the schema, or the whole tool where `whole`; None leaves it as it is."""

    canonical: bytes
    new: bytes | None
    whole: bool


def tools(member: Span, declared: Sequence[Tool] | None, path: Path, edits: Edits) -> list[Segment]:
    """Segments of the tools in the order to forward; splices where another spelling is known.

    `declared` is None for a list with tools of unknown shape; `path` leads to a tool's schema.
    """
    if member.raw in NOTHING:
        return []
    if declared is None:
        wholes = [span.raw for span in _elements(member)]
        declared = [Tool([], None)] * len(wholes)
    else:
        wholes = [tool.schema or b"null" for tool in declared]
    spelled = [_spell(raw, tool, edits) for raw, tool in zip(wholes, declared, strict=True)]
    order = edits.listing([tool.canonical for tool in spelled])
    if order != list(range(len(order))):
        parts = [_unmarked(part, path[:-1], edits) for part in _respelled(member, spelled, path)]
        listing = b"[" + b",".join(parts[index] for index in order) + b"]"
        edits.replace(member, listing, "tool_order")
    elif any(tool.new is not None for tool in spelled):
        for span, tool in zip(_elements(member), spelled, strict=True):
            at = _place(span, tool, path)
            if at is not None and tool.new is not None:
                edits.replace(at, tool.new, "schema_order")
    _mark(member, declared, path[:-1], edits)
    return [segment("tools", [spelled[index].canonical]) for index in order]


def _mark(member: Span, declared: Sequence[Tool], inner: Path, edits: Edits) -> None:
    inside = Among(member, ())
    for index, tool in enumerate(declared):
        for depth, control in enumerate(tool.marks):
            if control is not None:
                edits.mark(control, partial(inside.place, index, *inner[:depth]))


def _spell(raw: bytes, tool: Tool, edits: Edits) -> _Spelled:
    canonical, forward = edits.value(raw, _ANY.decode(raw))
    if tool.facts:
        canonical = _ENCODE(tool.facts) + canonical
    if tool.behind.count(None) < len(tool.behind):
        canonical += _ENCODE(tool.behind)
    return _Spelled(canonical, None if forward == raw else forward, tool.schema is None)


def _respelled(member: Span, spelled: Sequence[_Spelled], path: Path) -> list[bytes]:
    parts = []
    for span, tool in zip(_elements(member), spelled, strict=True):
        at = _place(span, tool, path)
        if at is None or tool.new is None:
            parts.append(span.raw)
        else:
            before, behind = at.start - span.start, at.end - span.start
            parts.append(span.raw[:before] + tool.new + span.raw[behind:])
    return parts


def _unmarked(raw: bytes, inner: Path, edits: Edits) -> bytes:
    """A tool as it is forwarded, and the function in it."""
    raw = edits.forwarded(raw)
    function = place(Span(raw, 0, len(raw)), inner) if inner and edits.strips_marks else None
    if function is None:
        return raw
    return raw[: function.start] + edits.forwarded(function.raw) + raw[function.end :]


def _place(span: Span, tool: _Spelled, path: Path) -> Located | None:
    return span if tool.whole else place(span, path)


def _elements(member: Span) -> list[Span]:
    spans = array_spans(member.raw, member.start)
    if spans is None:
        raise UnknownShapeError("tools is not a list")
    return spans
