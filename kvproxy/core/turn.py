"""Reading a request body: from the client's bytes to a chain and the splices to forward.

The first time a conversation is seen all of it is parsed; later turns resume behind what is known
and do work in proportion to what is new (core/resume).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from kvproxy.core.blocks import FINE_TEXT_BYTES, extend
from kvproxy.core.canonical import Canonicaliser, Whose
from kvproxy.core.dialects.base import Dialect, Members, UnknownShapeError
from kvproxy.core.errors import ProxyError
from kvproxy.core.heads import Head, Heads
from kvproxy.core.resume import Begun, Point, ResumePoints, ending, hash_first, hash_on
from kvproxy.core.spans import Span, array_spans, object_spans
from kvproxy.core.types import Chain, Splice

# The last elements of a list are read again next turn: clients move cache marks about in them.
_REREAD_ELEMENTS = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """`chain` is empty when the shape is unknown: such a body is forwarded as it is. What a dry run
    would have spliced is `not_applied`."""

    dialect: Dialect
    model: str
    stream: bool
    members: Mapping[str, Span]
    chain: Chain
    splices: list[Splice]
    resumed_at: int
    not_applied: Sequence[Splice] = ()


class _Reading(NamedTuple):
    """One body being read. `scope` keeps dialects and tenants apart."""

    dialect: Dialect
    whose: Whose
    body: bytes
    scope: str


class TurnReader:
    """Holds what one turn teaches about the next; read() is its only entry."""

    def __init__(self, canon: Canonicaliser, block_bytes: int, max_points: int) -> None:
        self._canon = canon
        self._block_bytes = block_bytes
        self._points = ResumePoints(max_points)
        self._heads = Heads(canon, block_bytes)

    def read(self, dialect: Dialect, tenant: str, body: bytes, session: str = "") -> Turn:
        """Raises ProxyError invalid_json / invalid_body for what no engine would take either."""
        whose = Whose(tenant, session)
        reading = _Reading(dialect, whose, body, self._canon.scope(dialect.name, whose))
        try:
            begun = self._points.find(reading.scope, body) if dialect.growing else None
            turn = self._resume(reading, begun) if begun is not None else None
            return turn if turn is not None else self._read_all(reading)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProxyError("invalid_json", f"The body is not valid JSON: {error}") from error
        except RecursionError as error:
            raise ProxyError("invalid_json", "The body's JSON is nested too deeply.") from error

    def _read_all(self, reading: _Reading) -> Turn:
        members = object_spans(reading.body)
        if members is None:
            return _unread(reading)
        try:
            growing = members.get(reading.dialect.growing)
            elements = _elements(growing) if growing is not None else []
            lead = elements[0] if elements and reading.dialect.leads(elements[0]) else None
            head = self._head(reading, members, lead)
            if growing is None or not elements:
                return _turn(reading, members, head.chain, head.splices, 0)
            before = {
                name: (span.start, span.end)
                for name, span in members.items()
                if span.start < growing.start
            }
            place = (lead.start, lead.end) if lead is not None else None
            end = head.chain.end
            start = Point(
                0, 0, b"", head.skip, b"", before, place, end, head.chain, len(head.chain), []
            )
            chain, splices = self._grow(reading, start, None, elements)
        except UnknownShapeError:
            return _turn(reading, members, Chain(), [], 0)
        return _turn(reading, members, chain, head.splices + splices, 0)

    def _resume(self, reading: _Reading, begun: Begun) -> Turn | None:
        """None where the point does not carry over after all: then everything is read."""
        point, body = begun.point, reading.body
        opening = b'{"' + reading.dialect.growing.encode() + b'":[0'
        try:
            tail = object_spans(opening + body[point.offset :], point.offset - len(opening))
        except msgspec.DecodeError:
            return None
        if tail is None or not tail.keys().isdisjoint(point.members):
            return None
        growing = tail.pop(reading.dialect.growing)
        members = {name: _span(body, at) for name, at in point.members.items()} | tail
        lead = _span(body, point.lead) if point.lead is not None else None
        try:
            head = self._head(reading, members, lead)
            if head.chain.end != point.head_hash:
                return None
            elements = array_spans(growing.raw, growing.start)
            assert elements, "the opening is an element"
            chain, splices = self._grow(reading, point, begun, elements[1:])
        except UnknownShapeError:
            return None
        return _turn(reading, members, chain, head.splices + splices, point.offset)

    def _grow(
        self, reading: _Reading, start: Point, begun: Begun | None, elements: Sequence[Span]
    ) -> tuple[Chain, list[Splice]]:
        """Extend the chain at `start` by `elements`; files the point the next turn resumes at."""
        chain, edits = start.chain.until(start.blocks), self._canon.edits(reading.whose)
        edits.splices = list(start.splices)
        resume_behind = max(len(elements) - _REREAD_ELEMENTS, min(len(elements), 1)) - 1
        for index, element in enumerate(elements):
            if index or start.elements or start.lead is None:
                items = reading.dialect.items(element, edits)
                extend(chain, items, self._block_bytes, FINE_TEXT_BYTES)
            if index == resume_behind:
                offset = element.end
                if begun is None:
                    hashed = hash_first(reading.body, offset, start.skip)
                else:
                    hashed = hash_on(reading.body, offset, begun)
                point = start._replace(
                    offset=offset,
                    elements=start.elements + index + 1,
                    digest=hashed.digest(),
                    ending=ending(reading.body, offset),
                    chain=chain,
                    blocks=len(chain),
                    splices=list(edits.splices),
                )
                self._points.file(reading.scope, reading.body, point, begun and begun.point)
        return chain, edits.splices

    def _head(self, reading: _Reading, members: Members, lead: Span | None) -> Head:
        """`lead` stands for the growing list among the members of the head."""
        dialect = reading.dialect
        present = []
        for name in dialect.head_members:
            span = lead if name == dialect.growing else members.get(name)
            if span is not None:
                present.append((name, span))
        return self._heads.head(dialect, reading.whose, _text(members, "model"), present)


def apply(body: bytes, splices: list[Splice]) -> bytes:
    """The bytes to forward: the client's own, each splice's range replaced."""
    if not splices:
        return body
    view = memoryview(body)
    parts: list[bytes | memoryview] = []
    at = 0
    for splice in sorted(splices, key=lambda splice: splice.start):
        assert at <= splice.start <= splice.end <= len(body), "splices overlap"
        parts += [view[at : splice.start], splice.new]
        at = splice.end
    return b"".join([*parts, view[at:]])


def _elements(growing: Span) -> list[Span]:
    """A text in place of the list counts as its only element."""
    elements = array_spans(growing.raw, growing.start)
    return [growing] if elements is None else elements


def _span(body: bytes, place: tuple[int, int]) -> Span:
    return Span(body[place[0] : place[1]], *place)


def _turn(
    reading: _Reading, members: Members, chain: Chain, splices: list[Splice], resumed_at: int
) -> Turn:
    stream = "stream" in members and members["stream"].raw == b"true"
    model = _text(members, "model")
    return Turn(reading.dialect, model, stream, members, chain, splices, resumed_at)


def _unread(reading: _Reading) -> Turn:
    """JSON whose layout has no spans: only what placement needs is looked at."""
    value = msgspec.json.decode(reading.body)
    if not isinstance(value, dict):
        raise ProxyError("invalid_body", "The body must be a JSON object.")
    model = value.get("model")
    model = model if isinstance(model, str) else ""
    return Turn(reading.dialect, model, value.get("stream") is True, {}, Chain(), [], 0)


def _text(members: Members, name: str) -> str:
    raw = members[name].raw if name in members else b'""'
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else ""
