"""Reading a request body: from the client's bytes to a chain and the splices to forward.

The first time a conversation is seen all of it is parsed; later turns resume behind what is known
and do work in proportion to what is new (core/resume).
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from kvproxy.core.before import before, span_at
from kvproxy.core.canonical import ARGUMENTS, TEXT, Canonicaliser, Whose
from kvproxy.core.continued import Continued
from kvproxy.core.dialects.base import Dialect, Members, UnknownShapeError
from kvproxy.core.dialects.generated import SIGNS, WHOLE_SIGNS, generated, structured
from kvproxy.core.echo import Tap, TapBudget
from kvproxy.core.errors import ProxyError
from kvproxy.core.growing import REREAD_ELEMENTS, Growing, Grown, Reading
from kvproxy.core.heads import READING_MEMORY, Fixed, Head, Heads, ReadingMemory
from kvproxy.core.layout import NOWHERE, Layout
from kvproxy.core.marks import NO_MARKS, Marks, of_members
from kvproxy.core.members import continued, elements_of, present, ranks
from kvproxy.core.naming import Named, Naming
from kvproxy.core.odd_layouts import members_read, written_plainly
from kvproxy.core.parted import Elements, Parted, going_on, parted
from kvproxy.core.pieces import Body, spliced, whole
from kvproxy.core.pools import Pools
from kvproxy.core.resume import Begun, Point, ResumePoints
from kvproxy.core.spans import Span, body_spans, object_spans, rest_spans
from kvproxy.core.types import Chain, Splice

# Smaller bodies are read faster in two simple passes.
_FUSED_BYTES = 8 * 2**10
# Larger ones are faster read in parts, though their elements do not say where they lie.
_PARTED_BYTES = 16 * 2**10
# JSON that engines may read all the same: of another shape, or with numbers beyond all bounds.
_NOT_UNDERSTOOD = (UnknownShapeError, msgspec.ValidationError)
# A head whose splices are larger is not kept with every conversation, but found anew.
_FIXED_BYTES = 4 * 2**10
_TEXT = msgspec.json.Decoder(str)


class Turn(msgspec.Struct):
    """`chain` is empty when the shape is unknown: such a body is forwarded as it is. Of a long body
    and of a later turn `members` lack the growing list. What a dry run would have spliced is
    `not_applied`. `model` is the one that serves it, `sent` the client's name for it."""

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
        self._growing = Growing(canon, self._points, block_bytes)
        self._heads = Heads(canon, block_bytes, memory.heads_bytes)

    def read(
        self, dialect: Dialect, tenant: str, body: Body, session: str = "", *, anew: bool = False
    ) -> Turn:
        """Raises ProxyError invalid_json / invalid_body for what no engine would take either.

        `anew`: all of it, and what it teaches takes the place of what was known.
        """
        whose = Whose(tenant, session)
        reading = Reading(dialect, whose, body, self._canon.scope(dialect.name, whose), anew=anew)
        try:
            if anew:
                self._heads.clear()
            turn = self._go_on(reading)
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
        whole = not turn.stream or structured(turn.members)
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
        name, is_json = turn.dialect.name, structured(turn.members)
        if not is_json and WHOLE_SIGNS[name] not in answer:
            return
        found = generated(name, answer)
        for arguments in found.arguments:
            self._canon.generated(tenant, arguments.encode(), ARGUMENTS)
        for text in found.texts if is_json else ():
            self._canon.generated(tenant, text.encode(), TEXT)

    def _read_all(self, reading: Reading) -> Turn:
        # A dialect in which nothing grows has no name for it, and "" may be a member's.
        name, body = reading.dialect.growing, whole(reading.body)
        listing = reading.dialect.listing
        if listing is not None and len(body) > _PARTED_BYTES and not reading.dialect.continues:
            parts = parted(body, name, reading.dialect.begins, REREAD_ELEMENTS)
            if parts is not None:
                # What is no JSON, or not understood, is told by reading it the other way.
                with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    parts.check(body, listing)
                    return self._read_members(reading, parts.members, parts.opening, parts)
        fused = body_spans(body, name) if name and len(body) > _FUSED_BYTES else None
        members = fused[0] if fused is not None else object_spans(body)
        if members is None:
            return self._unread(reading)
        if fused is not None:
            return self._read_members(reading, members, fused[1])
        growing = members.get(name) if name else None
        return self._read_members(reading, members, elements_of(growing))

    def _read_members(
        self,
        reading: Reading,
        members: Members,
        elements: Sequence[Span],
        parts: Parted | None = None,
    ) -> Turn:
        """`elements` are those of the growing list; of one in `parts`, which is then not among the
        members, the first ones."""
        name = reading.dialect.growing
        place = parts if parts is not None else members.get(name) if name else None
        named = self._naming.named(reading.dialect, reading.whose, members, elements)
        try:
            if continued(reading.dialect, members):
                return self._read_on(reading, members, named)
            lead = elements[0] if elements and reading.dialect.leads(elements[0]) else None
            lead_at = lead.start if lead is not None else 0
            listed = present(reading.dialect, members, lead)
            whose, model = reading.whose, named.model
            head = self._heads.head(reading.dialect, whose, model, listed)
            chain = self._heads.chain(reading.dialect, whose, model, listed, head)
            if place is None or not elements:
                return _without_list(reading, members, named, chain, head)
            if parts is None and place.end < self._points.smallest:
                led = lead is not None
                grown = self._growing.append(reading, chain, elements, led=led)
                return _turn(reading, members, named, head, grown, lead_at=lead_at)
            held = before(members, place.start, head.skip)
            led_by = (lead.start, lead.end) if lead is not None else None
            blocks = len(chain)
            start = Point(
                *(0, 0, b"", head.skip, 0, held, led_by, head.meaning, chain, blocks, ()),
                key=named.key,
                fixed=self._fixed(model, head, listed, place.end),
            )
            if parts is not None:
                grown = self._growing.begin(reading, start, parts)
            else:
                grown = self._growing.grow(reading, start, None, elements)
        except _NOT_UNDERSTOOD:
            return _without_list(reading, members, named, Chain(), None)
        return _turn(reading, members, named, head, grown, lead_at=lead_at)

    def _fixed(
        self, model: str, head: Head, listed: Sequence[tuple[str, Span]], end: int
    ) -> Fixed | None:
        """The head as it stays where the list, which ends there, goes on; None if some of it stands
        behind the list, or is text that changes by itself, or is much to keep."""
        kept = sum([len(splice.new) for splice in head.splices])
        if kept > _FIXED_BYTES or head.skip != (0, 0) or any(s.start >= end for _, s in listed):
            return None
        return self._heads.fixed(model, head)

    def _read_on(self, reading: Reading, members: Members, named: Named) -> Turn:
        """A body whose conversation began before it."""
        dialect, model = reading.dialect, named.model
        head_members = [(n, span) for n, span in present(dialect, members, None)]
        head = self._heads.head(dialect, reading.whose, model, head_members)
        previous = continued(dialect, members)
        before = self._continued.chain(reading.whose.tenant, previous, head.meaning)
        if before is None:
            raise UnknownShapeError("nothing is known of the conversation that goes on")
        elements = elements_of(members.get(dialect.growing))
        grown = self._growing.append(reading, before, elements, led=False)
        return _turn(reading, members, named, head, grown)

    def _unread(self, reading: Reading) -> Turn:
        """JSON whose layout has no spans: it is looked at, and forwarded as it is."""
        members = members_read(whole(reading.body))
        if members is None:
            raise ProxyError("invalid_body", "The body must be a JSON object.")
        model = members.get("model", b"")
        named = self._naming.unread(_TEXT.decode(model) if model.startswith(b'"') else "")
        stream = members.get("stream") == b"true"
        chain = self._plain_chain(reading, written_plainly(members), named.model)
        return Turn(reading.dialect, named.model, stream, {}, chain, [], 0, sent=named.sent)

    def _plain_chain(self, reading: Reading, plain: bytes, model: str) -> Chain:
        """Of the same members, written plainly; empty where that would be forwarded otherwise. It
        goes on from turn to turn as any body does."""
        reading = replace(reading, body=plain)
        turn = self._go_on(reading)
        if turn is None:
            if object_spans(plain) is None:
                return Chain()
            turn = self._read_all(reading)
        return turn.chain if turn.model == model and not turn.splices else Chain()

    def _go_on(self, reading: Reading) -> Turn | None:
        """From what is known of it; None where that is nothing."""
        small = len(reading.body) < self._points.smallest
        if small or reading.anew or not reading.dialect.growing:
            return None
        begun = self._points.find(reading.scope, reading.body)
        return self._resume(reading, begun) if begun is not None else None

    def _new(self, reading: Reading, begun: Begun) -> tuple[dict[str, Span] | None, Elements]:
        """Members behind the list, and its elements behind the point. None if that is no more than
        what was read before."""
        point, dialect = begun.point, reading.dialect
        if dialect.listing is not None and begun.filed is not point:
            more = going_on(reading.body, point.offset, dialect.listing)
            if more is not None and more[1] <= REREAD_ELEMENTS:
                return {}, more[0]
        found = rest_spans(reading.body, point.offset, dialect.growing)
        if found is None or dialect.continues in found[0]:
            return None, ()
        tail, elements = found
        del tail[dialect.growing]
        assert elements, "the opening is an element"
        return tail, elements[1:]

    def _resume(self, reading: Reading, begun: Begun) -> Turn | None:
        """None where the point does not carry over after all: then everything is read."""
        point, body = begun.point, reading.body
        tail, elements = self._new(reading, begun)
        if tail is None:
            return None
        members = point.members.in_body(body)
        if tail:
            if not tail.keys().isdisjoint(members):
                return None
            members |= tail
        named = self._naming.resumed(reading.whose, members, point.key)
        if named is None:
            return None
        model, head, era = point.fixed or ("", None, 0)
        try:
            there = ranks(reading.dialect.head_members)
            same = model == named.model and era == self._heads.era
            if head is None or not same or not there.keys().isdisjoint(tail):
                lead = span_at(body, point.lead) if point.lead is not None else None
                listed = present(reading.dialect, members, lead)
                head = self._heads.head(reading.dialect, reading.whose, named.model, listed)
                if era != self._heads.era:
                    fixed = self._fixed(named.model, head, listed, point.offset)
                    reading = replace(reading, fixed=fixed)
            if head.meaning != point.head:
                return None
            grown = self._growing.grow(reading, point, begun, elements)
        except _NOT_UNDERSTOOD:
            return None
        lead_at = point.lead[0] if point.lead is not None else 0
        return _turn(reading, members, named, head, grown, lead_at=lead_at, resumed_at=point.offset)


def apply(body: bytes, splices: list[Splice]) -> bytes:
    """The bytes to forward: the client's own, each splice's range replaced."""
    return whole(spliced(body, splices))


def _turn(
    reading: Reading,
    members: Members,
    named: Named,
    head: Head,
    grown: Grown,
    *,
    lead_at: int = 0,
    resumed_at: int = 0,
) -> Turn:
    return Turn(
        reading.dialect,
        named.model,
        _streams(members),
        members,
        grown.chain,
        head.splices + grown.splices + named.splices(members),
        resumed_at,
        (),
        Layout(head.parts, grown.before, grown.firsts, grown.starts, lead_at),
        head.marks.and_(grown.marks).and_(of_members(members)),
        head.meaning,
        named.sent,
    )


def _without_list(
    reading: Reading, members: Members, named: Named, chain: Chain, head: Head | None
) -> Turn:
    """A body in which nothing grows, or one without a `head`, that is not understood."""
    splices, marks = named.splices(members), of_members(members)
    if head is not None:
        splices, marks = head.splices + splices, head.marks.and_(marks)
    return Turn(
        reading.dialect,
        named.model,
        _streams(members),
        members,
        chain,
        splices,
        0,
        marks=marks,
        sent=named.sent,
    )


def _streams(members: Members) -> bool:
    return "stream" in members and members["stream"].raw == b"true"
