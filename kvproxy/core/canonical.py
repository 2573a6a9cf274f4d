"""Same meaning, same bytes: which spelling of an order-sensitive value goes to the engine.

Chat templates print the JSON inside tool schemas and tool-call arguments in the client's key order,
and the tools in the client's list order. Everything else a client may shuffle never reaches the
prompt. So only those values are touched, by splices into the client's own bytes.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec
from xxhash import xxh3_128_digest

from kvproxy.core.marks import NAME, NO_MARKS, mark, member_range, without_mark
from kvproxy.core.one_copy import one_copy
from kvproxy.core.representatives import Representatives
from kvproxy.core.segments import sorted_json
from kvproxy.core.spans import Located
from kvproxy.core.types import Splice
from kvproxy.core.unprinted import Unprinted
from kvproxy.core.volatile import Volatile, Where

_ANY = msgspec.json.Decoder()
# JSON has no NUL: what is remembered under these is never mistaken for a canonical form.
ARGUMENTS, TEXT = b"\0generated\0", b"\0said\0"


class Order(StrEnum):
    FIRST_SEEN = "first_seen"
    SORTED = "sorted"
    PRESERVE = "preserve"


# Asking an enumeration for a member takes its time.
_PRESERVE, _SORTED = Order.PRESERVE, Order.SORTED


class Whose(msgspec.Struct, frozen=True, gc=False):
    """What is remembered belongs to a tenant; frozen text to one of its sessions, "" for none."""

    tenant: str
    session: str = ""


class Canonicaliser:
    """`order` says how a spelling is chosen; first-seen ones are shared by all turns. Cache marks
    are forwarded unless it `strips_marks`. If it `echoes`, what a replica generated is the spelling
    of what means the same."""

    def __init__(
        self,
        order: Order,
        representatives: Representatives,
        volatile: Volatile | None = None,
        *,
        strips_marks: bool = False,
        echoes: bool = False,
        unprinted: Unprinted | None = None,
    ) -> None:
        self.order = order
        self.strips_marks = strips_marks
        self.echoes = echoes and order is Order.FIRST_SEEN
        self.representatives = representatives
        self.volatile = volatile or Volatile()
        self.unprinted = Unprinted() if unprinted is None else unprinted
        # Whose texts may change on their way.
        self.cleaned = frozenset(where for where in Where if self.volatile.touches(where))

    def scope(self, dialect: str, whose: Whose) -> str:
        """What is remembered of read bytes counts within this; sessions share all but what is
        frozen."""
        session = whose.session if self.volatile.freezes else ""
        edition = self.representatives.edition(whose.tenant)
        printed = self.unprinted.edition
        return one_copy(f"{dialect}\0{whose.tenant}\0{session}\0{edition}\0{printed}")

    def edits(self, whose: Whose) -> "Edits":
        return Edits(self, whose)

    def generated(self, tenant: str, spelling: bytes, kind: bytes) -> None:
        """A replica generated this JSON, as `kind` ARGUMENTS or TEXT. A spelling that a prompt was
        sent with before stays: its blocks are cached."""
        try:
            parsed = _ANY.decode(spelling)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if not isinstance(parsed, dict | list):
            return
        canonical, kept = sorted_json(parsed), self.representatives
        if kind == TEXT:
            kept.intern(tenant, TEXT + canonical, spelling)
            self.cleaned |= {Where.ASSISTANT}
        elif kept.intern(tenant, canonical, spelling) == spelling:
            kept.intern(tenant, ARGUMENTS + canonical, b"")


class Edits:
    """The canonical form of one body while it is read: spellings asked for, splices collected."""

    def __init__(self, canon: Canonicaliser, whose: Whose) -> None:
        self._canon = canon
        self._whose = whose
        self.prints = canon.unprinted.prints
        self.cleaned = canon.cleaned
        self.marks = NO_MARKS
        self.splices: list[Splice] = []

    def prints_value(self, trait: str) -> bool:
        """Whether a template argument counts: see core/unprinted."""
        return self._canon.unprinted.prints_value(trait, self._whose.tenant)

    @property
    def strips_marks(self) -> bool:
        return self._canon.strips_marks

    def replace(self, span: Located, new: bytes, kind: str) -> None:
        self.splices.append(Splice(span.start, span.end, new, kind))

    def mark(self, control: object, place: Callable[[], Located | None]) -> None:
        """The object at `place` has this `cache_control`."""
        found = mark(control)
        if not found.number:
            return
        self.marks = self.marks.and_(found)
        span = place() if self.strips_marks else None
        # What contains a mark was spliced right before the marks in it were looked at.
        last = self.splices[-1] if self.splices else None
        if span is None or (last and last.start <= span.start and span.end <= last.end):
            return
        within = member_range(span.raw, NAME)
        if within is not None:
            start, end = span.start + within[0], span.start + within[1]
            self.splices.append(Splice(start, end, b"", "cache_mark"))

    def forwarded(self, raw: bytes) -> bytes:
        """The bytes of an object that are forwarded inside those of another splice."""
        return without_mark(raw) if self.strips_marks else raw

    def clean(self, where: Where, text: str) -> tuple[str, str]:
        """(`text` without what changes by itself, kind of the splice that this needs or "")."""
        if where is Where.ASSISTANT:
            said = self._said(text)
            return said, "echo" if said != text else ""
        return self._canon.volatile.clean(self._whose.tenant, self._whose.session, where, text)

    def arguments(self, raw: bytes, parsed: object) -> tuple[bytes, bytes, str]:
        """(canonical form, bytes to forward, kind of the splice that this needs) of what a tool is
        called with."""
        if not self._canon.echoes:
            return *self.value(raw, parsed), "argument_order"
        canonical, kept = sorted_json(parsed), self._canon.representatives
        if kept.known(self._whose.tenant, ARGUMENTS + canonical) is not None:
            first = kept.known(self._whose.tenant, canonical)
            if first is not None:
                return canonical, first, "echo"
        return canonical, self._first(canonical, raw, parsed), "argument_order"

    def _said(self, text: str) -> str:
        """A text that is JSON as a replica generated it, if one did."""
        if not text.lstrip().startswith(("{", "[")):
            return text
        try:
            canonical = sorted_json(_ANY.decode(text))
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return text
        said = self._canon.representatives.known(self._whose.tenant, TEXT + canonical)
        return said.decode() if said is not None else text

    def value(self, raw: bytes, parsed: object) -> tuple[bytes, bytes]:
        """(canonical form for hashing, bytes to forward) of the JSON value `raw`.

        `parsed` is `raw` decoded. With `preserve` both are the client's order.
        """
        order = self._canon.order
        if order is _PRESERVE:
            return msgspec.json.encode(parsed), raw
        canonical = sorted_json(parsed)
        if order is _SORTED:
            return canonical, raw if is_sorted(parsed) else canonical
        return canonical, self._first(canonical, raw, parsed)

    def _first(self, canonical: bytes, raw: bytes, parsed: object) -> bytes:
        """The bytes to forward where the first ones seen count."""
        if b"," not in raw:
            # No object in it has two keys, so there is but one order.
            return raw
        first = self._canon.representatives.intern(self._whose.tenant, canonical, raw)
        if first == raw or msgspec.json.encode(_ANY.decode(first)) == msgspec.json.encode(parsed):
            # White space and escapes never reach the prompt.
            return raw
        return first

    def listing(self, canonicals: list[bytes]) -> list[int]:
        """The order in which to forward list elements that have these canonical forms."""
        natural = list(range(len(canonicals)))
        order, kept = self._canon.order, self._canon.representatives
        if order is Order.PRESERVE or len(canonicals) < 2:
            return natural
        ranked = sorted(natural, key=lambda i: canonicals[i])
        if order is Order.SORTED:
            return ranked
        key = b"list" + b"".join(xxh3_128_digest(canonicals[i]) for i in ranked)
        # The spelling of a list is its permutation: rank of each element in first-seen order.
        rank = {index: position for position, index in enumerate(ranked)}
        spelling = msgspec.json.encode([rank[i] for i in natural])
        chosen: list[int] = _ANY.decode(kept.intern(self._whose.tenant, key, spelling))
        return [ranked[position] for position in chosen]


def is_sorted(value: object) -> bool:
    if isinstance(value, dict):
        keys = list(value)
        return keys == sorted(keys) and all(is_sorted(v) for v in value.values())
    return not isinstance(value, list) or all(is_sorted(v) for v in value)
