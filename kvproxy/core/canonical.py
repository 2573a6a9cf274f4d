"""Same meaning, same bytes: which spelling of an order-sensitive value goes to the engine.

Chat templates print the JSON inside tool schemas and tool-call arguments in the client's key order,
and the tools in the client's list order. Everything else a client may shuffle never reaches the
prompt. So only those values are touched, by splices into the client's own bytes.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec
from xxhash import xxh3_128_digest

from kvproxy.core.representatives import Representatives
from kvproxy.core.segments import sorted_json
from kvproxy.core.spans import Span
from kvproxy.core.types import Splice
from kvproxy.core.volatile import Volatile, Where

_ANY = msgspec.json.Decoder()


class Order(StrEnum):
    FIRST_SEEN = "first_seen"
    SORTED = "sorted"
    PRESERVE = "preserve"


class Whose(NamedTuple):
    """What is remembered belongs to a tenant; frozen text to one of its sessions, "" for none."""

    tenant: str
    session: str = ""


class Canonicaliser:
    """`order` says how a spelling is chosen; first-seen ones are shared by all turns."""

    def __init__(
        self, order: Order, representatives: Representatives, volatile: Volatile | None = None
    ) -> None:
        self.order = order
        self.representatives = representatives
        self.volatile = volatile or Volatile()

    def scope(self, dialect: str, whose: Whose) -> str:
        """What is remembered of read bytes counts within this; sessions share all but what is
        frozen."""
        session = whose.session if self.volatile.freezes else ""
        edition = self.representatives.edition(whose.tenant)
        return f"{dialect}\0{whose.tenant}\0{session}\0{edition}"

    def edits(self, whose: Whose) -> "Edits":
        return Edits(self, whose)


class Edits:
    """The canonical form of one body while it is read: spellings asked for, splices collected."""

    def __init__(self, canon: Canonicaliser, whose: Whose) -> None:
        self._whose = whose
        self._tenant = whose.tenant
        self._order = canon.order
        self._representatives = canon.representatives
        self._volatile = canon.volatile
        self.splices: list[Splice] = []

    def replace(self, span: Span, new: bytes, kind: str) -> None:
        self.splices.append(Splice(span.start, span.end, new, kind))

    def cleans(self, where: Where) -> bool:
        """Whether clean() may change texts of this kind at all."""
        return self._volatile.touches(where)

    def clean(self, where: Where, text: str) -> tuple[str, str]:
        """(`text` without what changes by itself, kind of the splice that this needs or "")."""
        return self._volatile.clean(self._tenant, self._whose.session, where, text)

    def value(self, raw: bytes, parsed: object) -> tuple[bytes, bytes]:
        """(canonical form for hashing, bytes to forward) of the JSON value `raw`.

        `parsed` is `raw` decoded. With `preserve` both are the client's order.
        """
        if self._order is Order.PRESERVE:
            return msgspec.json.encode(parsed), raw
        canonical = sorted_json(parsed)
        if self._order is Order.SORTED:
            return canonical, raw if is_sorted(parsed) else canonical
        if b"," not in raw:
            # No object in it has two keys, so there is but one order.
            return canonical, raw
        first = self._representatives.intern(self._tenant, canonical, raw)
        if first == raw or msgspec.json.encode(_ANY.decode(first)) == msgspec.json.encode(parsed):
            # White space and escapes never reach the prompt.
            return canonical, raw
        return canonical, first

    def listing(self, canonicals: list[bytes]) -> list[int]:
        """The order in which to forward list elements that have these canonical forms."""
        natural = list(range(len(canonicals)))
        if self._order is Order.PRESERVE or len(canonicals) < 2:
            return natural
        ranked = sorted(natural, key=lambda i: canonicals[i])
        if self._order is Order.SORTED:
            return ranked
        key = b"list" + b"".join(xxh3_128_digest(canonicals[i]) for i in ranked)
        # The spelling of a list is its permutation: rank of each element in first-seen order.
        rank = {index: position for position, index in enumerate(ranked)}
        spelling = msgspec.json.encode([rank[i] for i in natural])
        chosen: list[int] = _ANY.decode(self._representatives.intern(self._tenant, key, spelling))
        return [ranked[position] for position in chosen]


def is_sorted(value: object) -> bool:
    if isinstance(value, dict):
        keys = list(value)
        return keys == sorted(keys) and all(is_sorted(v) for v in value.values())
    return not isinstance(value, list) or all(is_sorted(v) for v in value)
