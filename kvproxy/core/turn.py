"""Reading a request body: from the client's bytes to a chain and the splices to forward.

The first time a conversation is seen all of it is parsed; later turns resume behind what is known
and do work in proportion to what is new (core/resume).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from kvproxy.core.blocks import FINE_TEXT_BYTES, extend
from kvproxy.core.canonical import ARGUMENTS, TEXT, Canonicaliser, Whose
from kvproxy.core.continued import Continued
from kvproxy.core.dialects.base import Dialect, Members, UnknownShapeError
from kvproxy.core.dialects.generated import SIGNS, STRUCTURED, generated
from kvproxy.core.echo import Tap, TapBudget
from kvproxy.core.errors import ProxyError
from kvproxy.core.heads import READING_MEMORY, Head, Heads, ReadingMemory
from kvproxy.core.layout import NOWHERE, Layout
from kvproxy.core.marks import NO_MARKS, Marks, of_members
from kvproxy.core.members import continued, elements_of, present
from kvproxy.core.naming import Named, Naming
from kvproxy.core.pools import Pools
from kvproxy.core.resume import Begun, Point, ResumePoints, ending, hash_first, hash_on
from kvproxy.core.segments import Segment
from kvproxy.core.spans import Span, array_spans, body_spans, object_spans
from kvproxy.core.types import Chain, Splice

# The last elements of a list are read again next turn: clients move cache marks about in them.
_REREAD_ELEMENTS = 3
# Smaller bodies are read faster in two simple passes.
_FUSED_BYTES = 8 * 2**10


class Turn(msgspec.Struct):
    """`chain` is empty when the shape is unknown: such a body is forwarded as it is. What a dry run
    would have spliced is `not_applied`. `model` is the one that serves it, `sent` the client's name
    for it."""

    dialect: Dialect
    model: str
    stream: bool
    members: Mapping[str, Span]
    chain: Chain
    splices: list[Splice]
    resumed_at: int
    not_applied: Sequence[Splice] = ()
    layout: Layout = NOWHERE
    marks: Marks = NO_MARKS
    head: bytes = b""
    sent: str = ""


class _Read(NamedTuple):
    """What reading a list came to: `elements` are (first segment, index, start) of those read."""

    chain: Chain
    splices: list[Splice]
    elements: list[tuple[int, int, int]]
    marks: Marks = NO_MARKS


class _Reading(NamedTuple):
    """One body being read. `scope` keeps dialects and tenants apart."""

    dialect: Dialect
    whose: Whose
    body: bytes
    scope: str


class TurnReader:
    """Holds what one turn teaches about the next; read() is its only entry."""

    def __init__(
        self,
        canon: Canonicaliser,
        block_bytes: int,
        max_points: int,
        echo_max_bytes: int = 2**26,
        *,
        pools: Pools | None = None,
        memory: ReadingMemory = READING_MEMORY,
    ) -> None:
        self._canon = canon
        self._naming = Naming(pools or Pools(), canon)
        self._budget = TapBudget(echo_max_bytes)
        self._continued = Continued(memory.responses_bytes, block_bytes)
        self._block_bytes = block_bytes
        self._points = ResumePoints(max_points, 4 * block_bytes)
        self._heads = Heads(canon, block_bytes, memory.heads_bytes)

    def read(
        self, dialect: Dialect, tenant: str, body: bytes, session: str = "", *, anew: bool = False
    ) -> Turn:
        """Raises ProxyError invalid_json / invalid_body for what no engine would take either.

        `anew`: all of it, and what it teaches takes the place of what was known.
        """
        whose = Whose(tenant, session)
        reading = _Reading(dialect, whose, body, self._canon.scope(dialect.name, whose))
        try:
            if anew:
                self._heads.clear()
            resumes = bool(dialect.growing) and not anew
            begun = self._points.find(reading.scope, body) if resumes else None
            turn = self._resume(reading, begun) if begun is not None else None
            return turn if turn is not None else self._read_all(reading)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProxyError("invalid_json", f"The body is not valid JSON: {error}") from error
        except RecursionError as error:
            raise ProxyError("invalid_json", "The body's JSON is nested too deeply.") from error

    def tap(self, turn: Turn) -> Tap | None:
        """For the answer to `turn`; None if nothing of it is of use."""
        signs = SIGNS.get(turn.dialect.name)
        if signs is None or not self._canon.echoes:
            return None
        whole = not turn.stream or not STRUCTURED.isdisjoint(turn.members)
        return Tap(() if whole else signs, self._budget)

    def responded(self, turn: Turn, tenant: str, response: str, answer_tokens: int) -> None:
        """The answer to `turn` is known as `response`: a later turn may go on from it."""
        self._naming.responded(tenant, response, Named(turn.sent, turn.model))
        if len(turn.chain):
            self._continued.keep(tenant, response, turn.chain, turn.head, answer_tokens)

    def answered(self, turn: Turn, tenant: str, answer: bytes) -> None:
        """What was kept of the answer to `turn`, from whom it is expected back."""
        if not answer:
            return
        found = generated(turn.dialect.name, answer)
        for arguments in found.arguments:
            self._canon.generated(tenant, arguments.encode(), ARGUMENTS)
        for text in found.texts if not STRUCTURED.isdisjoint(turn.members) else ():
            self._canon.generated(tenant, text.encode(), TEXT)

    def _read_all(self, reading: _Reading) -> Turn:
        # A dialect in which nothing grows has no name for it, and "" may be a member's.
        name = reading.dialect.growing
        large = len(reading.body) > _FUSED_BYTES
        fused = body_spans(reading.body, name) if name and large else None
        members = fused[0] if fused is not None else object_spans(reading.body)
        if members is None:
            return self._unread(reading)
        growing = members.get(name) if name else None
        elements = fused[1] if fused is not None else elements_of(growing)
        named = self._naming.named(reading.dialect, reading.whose, members, elements)
        try:
            if continued(reading.dialect, members):
                return self._read_on(reading, members, named)
            lead = elements[0] if elements and reading.dialect.leads(elements[0]) else None
            listed = present(reading.dialect, members, lead)
            whose, model = reading.whose, named.model
            head = self._heads.head(reading.dialect, whose, model, listed)
            chain = self._heads.chain(reading.dialect, whose, model, listed, head)
            if growing is None or not elements:
                return _turn(reading, members, named, chain, head.splices, marks=head.marks)
            if growing.end < self._points.smallest:
                read = self._append(reading, chain, elements, lead is not None)
                return _grown(reading, members, named, head, read)
            before = {
                name: (span.start, span.end)
                for name, span in members.items()
                if span.start < growing.start
            }
            place = (lead.start, lead.end) if lead is not None else None
            blocks = len(chain)
            start = Point(
                *(0, 0, b"", head.skip, b"", before, place, head.meaning, chain, blocks, []),
                key=named.key,
            )
            read = self._grow(reading, start, None, elements)
        except UnknownShapeError:
            return _turn(reading, members, named, Chain(), [])
        return _grown(reading, members, named, head, read)

    def _read_on(self, reading: _Reading, members: Members, named: Named) -> Turn:
        """A body whose conversation began before it."""
        dialect, model = reading.dialect, named.model
        head_members = [(n, span) for n, span in present(dialect, members, None)]
        head = self._heads.head(dialect, reading.whose, model, head_members)
        previous = continued(dialect, members)
        before = self._continued.chain(reading.whose.tenant, previous, head.meaning)
        if before is None:
            raise UnknownShapeError("nothing is known of the conversation that goes on")
        read = self._append(reading, before, elements_of(members.get(dialect.growing)), False)
        return _grown(reading, members, named, head, read)

    def _unread(self, reading: _Reading) -> Turn:
        """JSON whose layout has no spans: only what placement needs is looked at."""
        value = msgspec.json.decode(reading.body)
        if not isinstance(value, dict):
            raise ProxyError("invalid_body", "The body must be a JSON object.")
        model = value.get("model")
        named = self._naming.unread(model if isinstance(model, str) else "")
        stream = value.get("stream") is True
        return Turn(reading.dialect, named.model, stream, {}, Chain(), [], 0, sent=named.sent)

    def _append(
        self, reading: _Reading, before: Chain, elements: Sequence[Span], led: bool
    ) -> _Read:
        """Extend a copy of `before`, of which the first element is part if it `led`."""
        chain, edits = before.until(len(before)), self._canon.edits(reading.whose)
        segments: list[Segment] = []
        read, known = [], len(chain.items)
        for index, element in enumerate(elements):
            read.append((known + len(segments), index, element.start))
            if index or not led:
                segments += reading.dialect.items(element, edits)
        extend(chain, segments, self._block_bytes, FINE_TEXT_BYTES)
        chain.trim()
        return _Read(chain, edits.splices, read, edits.marks)

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
        if reading.dialect.continues in tail:
            return None
        growing = tail.pop(reading.dialect.growing)
        members = {name: _span(body, at) for name, at in point.members.items()} | tail
        lead = _span(body, point.lead) if point.lead is not None else None
        named = self._naming.resumed(reading.whose, members, point.key)
        if named is None:
            return None
        try:
            listed = present(reading.dialect, members, lead)
            head = self._heads.head(reading.dialect, reading.whose, named.model, listed)
            if head.meaning != point.head:
                return None
            elements = array_spans(growing.raw, growing.start)
            assert elements, "the opening is an element"
            read = self._grow(reading, point, begun, elements[1:])
        except UnknownShapeError:
            return None
        return _grown(reading, members, named, head, read, resumed_at=point.offset)

    def _grow(
        self, reading: _Reading, start: Point, begun: Begun | None, elements: Sequence[Span]
    ) -> _Read:
        """Extend the chain at `start` by `elements`; files the point the next turn resumes at."""
        chain, edits = start.chain.until(start.blocks), self._canon.edits(reading.whose)
        edits.splices, edits.marks = list(start.splices), start.marks
        resume_behind = max(len(elements) - _REREAD_ELEMENTS, min(len(elements), 1)) - 1
        leads = start.lead is not None and not start.elements
        segments: list[Segment] = []
        read, known = [], len(chain.items)
        for index, element in enumerate(elements):
            read.append((known + len(segments), start.elements + index, element.start))
            if index or not leads:
                segments += reading.dialect.items(element, edits)
            if index == resume_behind and element.end >= self._points.smallest:
                extend(chain, segments, self._block_bytes, FINE_TEXT_BYTES)
                segments, known = [], len(chain.items)
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
                    marks=edits.marks,
                )
                self._points.file(reading.scope, reading.body, point, begun and begun.point)
        extend(chain, segments, self._block_bytes, FINE_TEXT_BYTES)
        chain.trim()
        return _Read(chain, edits.splices, read, edits.marks)


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


def _span(body: bytes, place: tuple[int, int]) -> Span:
    return Span(body[place[0] : place[1]], *place)


def _grown(
    reading: _Reading,
    members: Members,
    named: Named,
    head: Head,
    read: _Read,
    *,
    resumed_at: int = 0,
) -> Turn:
    layout = Layout(head.parts, read.elements)
    splices = head.splices + read.splices
    marks = head.marks.and_(read.marks)
    turn = _turn(
        reading,
        members,
        named,
        read.chain,
        splices,
        resumed_at=resumed_at,
        layout=layout,
        marks=marks,
    )
    turn.head = head.meaning
    return turn


def _turn(
    reading: _Reading,
    members: Members,
    named: Named,
    chain: Chain,
    splices: list[Splice],
    *,
    resumed_at: int = 0,
    layout: Layout = NOWHERE,
    marks: Marks = NO_MARKS,
) -> Turn:
    return Turn(
        reading.dialect,
        named.model,
        "stream" in members and members["stream"].raw == b"true",
        members,
        chain,
        splices + named.splices(members),
        resumed_at,
        layout=layout,
        marks=marks.and_(of_members(members)),
        sent=named.sent,
    )
