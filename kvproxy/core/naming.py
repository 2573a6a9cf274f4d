"""The model a body names, in the place where the one that serves it is spliced in.

What tells a conversation apart is what it gives on purpose (core/identify), else what it goes on
from, else its first message behind the system text. Texts before that may have a date in them.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec
from msgspec import Struct
from xxhash import xxh3_128_digest

from kvproxy.core.blocks import extend
from kvproxy.core.canonical import Canonicaliser, Whose
from kvproxy.core.dialects.base import Dialect, Members, UnknownShapeError
from kvproxy.core.errors import ProxyError
from kvproxy.core.identify import identify
from kvproxy.core.lru import ByteLru
from kvproxy.core.members import continued, present, text_of
from kvproxy.core.passing import model_in_form, model_of
from kvproxy.core.pools import Pools
from kvproxy.core.spans import Span, object_spans
from kvproxy.core.types import Chain, Splice

_RESPONSES_MAX_BYTES = 8 * 2**20
_RESPONSE_BYTES = 300
_BEGINNING_BYTES = 1024
# Evidence that changes from turn to turn tells nothing of the conversation.
_CHANGING = "body:previous_response_id"


class Named(Struct, frozen=True, gc=False):
    """`sent` by the client, and the `model` that serves it; `key` told the conversation apart, b""
    where nothing had to."""

    sent: str
    model: str
    key: bytes = b""

    def splices(self, members: Members) -> list[Splice]:
        """What has to be changed for an engine to know it."""
        if self.sent == self.model:
            return []
        at = members["model"]
        return [Splice(at.start, at.end, msgspec.json.encode(self.model), "model")]


class Naming:
    """For one reader. Which model an answer came from is kept for those who go on from it."""

    def __init__(self, pools: Pools, canon: Canonicaliser) -> None:
        self._pools = pools
        self._canon = canon
        self._responses: ByteLru[tuple[str, str], str] = ByteLru(_RESPONSES_MAX_BYTES)

    def named(
        self, dialect: Dialect, whose: Whose, members: Members, elements: Sequence[Span]
    ) -> Named:
        """Of a body whose growing list has these elements. Raises as Pools.serve."""
        sent, pools = text_of(members, "model"), self._pools
        if sent not in pools.names:
            return Named(sent, sent)
        if pools.splits(sent):
            before = self._goes_on(dialect, whose, members)
            if before in pools.models(sent) and pools.takes(before):
                return Named(sent, before)
            told = _session(whose, members).encode() or self._beginning(
                dialect, whose, members, elements
            )
            key = whose.tenant.encode() + b"\0" + told
            return Named(sent, pools.serve(sent, lambda: key), key)
        return Named(sent, pools.serve(sent))

    def resumed(self, whose: Whose, members: Members, key: bytes) -> Named | None:
        """Of a body that begins as one that was told apart by `key`; None where it needs one and
        there is none. Raises as Pools.serve."""
        sent, pools = text_of(members, "model"), self._pools
        if not pools.splits(sent):
            return Named(sent, pools.serve(sent))
        if session := _session(whose, members):
            key = f"{whose.tenant}\0{session}".encode()
        return Named(sent, pools.serve(sent, lambda: key), key) if key else None

    def unread(self, sent: str) -> Named:
        """Of a body in which no place can be told: it is refused if it would have to be changed."""
        if sent in self._pools.names:
            _refuse(sent)
        return Named(sent, sent)

    def responded(self, tenant: str, response: str, named: Named) -> None:
        """The answer that is called `response` came from that model."""
        if response and self._pools.splits(named.sent):
            self._responses.put((tenant, response), named.model, _RESPONSE_BYTES)

    def _goes_on(self, dialect: Dialect, whose: Whose, members: Members) -> str:
        previous = continued(dialect, members)
        return (self._responses.get((whose.tenant, previous)) or "") if previous else ""

    def _beginning(
        self, dialect: Dialect, whose: Whose, members: Members, elements: Sequence[Span]
    ) -> bytes:
        """A digest of the first block of the first message that is not the system's; of the prompt
        where there are no messages."""
        chain, edits = Chain(), self._canon.edits(whose)
        try:
            if not dialect.growing:
                for name, span in present(dialect, members, None)[-1:]:
                    extend(chain, dialect.part(name, span, edits), _BEGINNING_BYTES)
                return chain.hashes[0].to_bytes(8, "big") if len(chain) else b""
            told = [e for e in elements[:2] if not dialect.leads(e)] or elements[:1]
            for segments in dialect.items(told[:1], edits):
                extend(chain, segments, _BEGINNING_BYTES)
        except UnknownShapeError:
            return elements[0].raw[:_BEGINNING_BYTES] if elements else b""
        return chain.hashes[0].to_bytes(8, "big") if len(chain) else b""


def passing(
    pools: Pools, body: bytes, content_type: str, session: str, check: Callable[[str], None]
) -> tuple[Named, bytes]:
    """The model and the body of a request that passes without being understood: JSON or a form
    whose `model` stands for another one gets that one's name. What belongs to no `session` is
    split by its bytes. The name that was sent goes to `check` first. Raises as Pools.serve."""
    sent = model_of(body, content_type)
    check(sent)
    if sent not in pools.names:
        return Named(sent, sent), body
    named = Named(sent, pools.serve(sent, lambda: session.encode() or xxh3_128_digest(body)))
    if named.model == sent:
        return named, body
    if content_type.lower().startswith("multipart/form-data"):
        place = model_in_form(body)
        assert place is not None, "the model was read there"
        return named, body[: place[0]] + named.model.encode() + body[place[1] :]
    try:
        members = object_spans(body)
    except (msgspec.DecodeError, RecursionError):
        members = None
    if members is None:
        _refuse(sent)
    [splice] = named.splices(members)
    return named, body[: splice.start] + splice.new + body[splice.end :]


def _session(whose: Whose, members: Members) -> str:
    if whose.session:
        return whose.session
    found = identify(whose.tenant, "", {}, members)
    return "" if found.evidence == _CHANGING else found.session


def _refuse(sent: str) -> NoReturn:
    raise ProxyError(
        "invalid_body",
        f"`{sent}` is served under another name, and in this body the place of `model` cannot be "
        "told: write its members once each and without escapes.",
        param="model",
    )
