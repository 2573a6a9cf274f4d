"""Reading a request body: from the client's bytes to a chain and the splices to forward.

The first time a conversation is seen all of it is parsed; later turns resume behind what is known
and do work in proportion to what is new (core/resume).
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from xxhash import xxh3_128_digest

from kvproxy.core.blocks import FINE_TEXT_BYTES, extend, root
from kvproxy.core.canonical import Canonicaliser
from kvproxy.core.dialects.base import Dialect, Members, UnknownShapeError
from kvproxy.core.errors import ProxyError
from kvproxy.core.resume import Point, ResumePoints, digest, ending
from kvproxy.core.spans import Span, array_spans, object_spans
from kvproxy.core.types import Chain, Splice

_HEADS_MAX = 256
# Dialect and tenant, the members there were, their digests joined.
_HeadKey = tuple[str, tuple[str, ...], bytes]
# The last elements of a list are read again next turn: clients move cache marks about in them.
_REREAD_ELEMENTS = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """`chain` is empty when the shape is unknown: such a body is forwarded as it is."""

    model: str
    stream: bool
    members: Mapping[str, Span]
    chain: Chain
    splices: list[Splice]
    resumed_at: int


class _Head(NamedTuple):
    """What precedes the growing list; splices are relative to the start of `tools`."""

    chain: Chain
    splices: list[Splice]


class _Reading(NamedTuple):
    """One body being read. `scope` keeps dialects and tenants apart."""

    dialect: Dialect
    tenant: str
    body: bytes

    @property
    def scope(self) -> str:
        return f"{self.dialect.name}\0{self.tenant}"


class TurnReader:
    """Holds what one turn teaches about the next; read() is its only entry."""

    def __init__(self, canon: Canonicaliser, block_bytes: int, max_points: int) -> None:
        self._canon = canon
        self._block_bytes = block_bytes
        self._points = ResumePoints(max_points)
        self._heads: OrderedDict[_HeadKey, _Head] = OrderedDict()

    def read(self, dialect: Dialect, tenant: str, body: bytes) -> Turn:
        """Raises ProxyError invalid_json / invalid_body for what no engine would take either."""
        reading = _Reading(dialect, tenant, body)
        try:
            point = self._points.find(reading.scope, body) if dialect.growing else None
            turn = self._resume(reading, point) if point is not None else None
            return turn if turn is not None else self._read_all(reading)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProxyError("invalid_json", f"The body is not valid JSON: {error}") from error
        except RecursionError as error:
            raise ProxyError("invalid_json", "The body's JSON is nested too deeply.") from error

    def _read_all(self, reading: _Reading) -> Turn:
        members = object_spans(reading.body)
        if members is None:
            return _unread(reading.body)
        try:
            if not reading.dialect.growing:
                whole = self._new_head(reading, members)
                return _turn(members, whole.chain, whole.splices, 0)
            head = self._head(reading, members)
            name = reading.dialect.growing
            if name not in members:
                return _turn(members, head.chain, head.splices, 0)
            growing = members[name]
            elements = array_spans(growing.raw, growing.start)
            if elements is None:
                raise UnknownShapeError(f"{name} is not a list")
            before = {
                name: (span.start, span.end)
                for name, span in members.items()
                if span.start < growing.start
            }
            start = Point(0, b"", b"", before, head.chain.end, head.chain, [])
            chain, splices = self._grow(reading, start, elements)
        except UnknownShapeError:
            return _turn(members, Chain(), [], 0)
        return _turn(members, chain, head.splices + splices, 0)

    def _resume(self, reading: _Reading, point: Point) -> Turn | None:
        """None where the point does not carry over after all: then everything is read."""
        opening = b'{"' + reading.dialect.growing.encode() + b'":[0'
        try:
            tail = object_spans(opening + reading.body[point.offset :], point.offset - len(opening))
        except msgspec.DecodeError:
            return None
        if tail is None or not tail.keys().isdisjoint(point.members):
            return None
        growing = tail.pop(reading.dialect.growing)
        before = {
            name: Span(reading.body[start:end], start, end)
            for name, (start, end) in point.members.items()
        }
        members = {**before, **tail}
        try:
            head = self._head(reading, members)
            if head.chain.end != point.head_hash:
                return None
            elements = array_spans(growing.raw, growing.start)
            assert elements, "the opening is an element"
            chain, splices = self._grow(reading, point, elements[1:])
        except UnknownShapeError:
            return None
        return _turn(members, chain, head.splices + splices, point.offset)

    def _grow(
        self, reading: _Reading, start: Point, elements: list[Span]
    ) -> tuple[Chain, list[Splice]]:
        """Extend the chain at `start` by `elements`; files the point the next turn resumes at."""
        chain, edits = start.chain.copy(), self._canon.edits(reading.tenant)
        edits.splices = list(start.splices)
        resume_behind = max(len(elements) - _REREAD_ELEMENTS, min(len(elements), 1)) - 1
        for index, element in enumerate(elements):
            item = reading.dialect.item(element, edits)
            extend(chain, [item], self._block_bytes, FINE_TEXT_BYTES)
            if index == resume_behind:
                offset = element.end
                point = start._replace(
                    offset=offset,
                    digest=digest(reading.body, offset),
                    ending=ending(reading.body, offset),
                    chain=chain.copy(),
                    splices=list(edits.splices),
                )
                self._points.file(reading.scope, reading.body, point, instead_of=start)
        return chain, edits.splices

    def _head(self, reading: _Reading, members: Members) -> _Head:
        """The chain of what stands before the growing list, remembered by its exact bytes."""
        names = [name for name in reading.dialect.head_members if name in members]
        text = b"".join(xxh3_128_digest(members[name].raw) for name in names)
        key = (reading.scope, tuple(names), text)
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = self._new_head(reading, members)
            while len(self._heads) > _HEADS_MAX:
                self._heads.popitem(last=False)
        self._heads.move_to_end(key)
        base = _base(members)
        return _Head(head.chain, [_shift(splice, base) for splice in head.splices])

    def _new_head(self, reading: _Reading, members: Members) -> _Head:
        edits = self._canon.edits(reading.tenant)
        chain = Chain(root=root(reading.tenant, _text(members, "model")))
        head = reading.dialect.head(members, edits)
        extend(chain, head, self._block_bytes, FINE_TEXT_BYTES)
        base = _base(members)
        return _Head(chain, [_shift(splice, -base) for splice in edits.splices])


def _base(members: Members) -> int:
    """Splices of a head all lie in `tools`, wherever those stand in the body."""
    return members["tools"].start if "tools" in members else 0


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


def _turn(members: Members, chain: Chain, splices: list[Splice], resumed_at: int) -> Turn:
    stream = "stream" in members and members["stream"].raw == b"true"
    return Turn(_text(members, "model"), stream, members, chain, splices, resumed_at)


def _unread(body: bytes) -> Turn:
    """JSON whose layout has no spans: only what placement needs is looked at."""
    value = msgspec.json.decode(body)
    if not isinstance(value, dict):
        raise ProxyError("invalid_body", "The body must be a JSON object.")
    model = value.get("model")
    return Turn(
        model if isinstance(model, str) else "", value.get("stream") is True, {}, Chain(), [], 0
    )


def _text(members: Members, name: str) -> str:
    raw = members[name].raw if name in members else b'""'
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else ""


def _shift(splice: Splice, by: int) -> Splice:
    return Splice(splice.start + by, splice.end + by, splice.new, splice.kind)
