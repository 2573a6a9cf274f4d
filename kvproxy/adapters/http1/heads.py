"""Header blocks as they are sent. Names, values and their order are those that were received."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from kvproxy.core.headers import LOWERED, end_to_end
from kvproxy.proxy import Headers

# Replaced by us on the way to a replica, or ours alone.
_NOT_FORWARDED = frozenset(
    {b"content-length", b"expect", b"host", b"x-kvproxy-decision", b"x-request-id"}
)
# Header blocks of requests and of answers that are remembered: those of a few hundred clients that
# take turns, and of as many kinds of answers.
_REQUESTS_MAX, _ANSWERS_MAX = 512, 256
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


def request_head(
    method: str,
    target: str,
    host: bytes,
    headers: Headers,
    own: bytes,
    *,
    more: Sequence[tuple[bytes, bytes]] = (),
    kept: frozenset[bytes] = frozenset(),
) -> bytes:
    """`own` are lines that every request has; `more` replace the client's headers of those names,
    and those in `kept` go no further."""
    replaced = kept.union(dict(more)) if more else kept
    # A tuple is one that may come again.
    known = isinstance(headers, tuple)
    theirs = _remembered(headers, replaced) if known else _theirs(headers, replaced)
    first = f"{method} {target} HTTP/1.1\r\n".encode("latin-1")
    return b"%bHost: %b\r\n%b%b%b\r\n" % (first, host, theirs, own, lines(more) if more else b"")


def _theirs(headers: Headers, replaced: frozenset[bytes]) -> bytes:
    return lines(end_to_end(headers, _NOT_FORWARDED | replaced))


@lru_cache(_REQUESTS_MAX)
def _remembered(headers: tuple[tuple[bytes, bytes], ...], replaced: frozenset[bytes]) -> bytes:
    return _theirs(headers, replaced)


@dataclass(frozen=True, slots=True)
class Block:
    """An answer's headers as they are sent on. `sized`: they state how long it is; `events`: they
    announce an event stream as it is, not encoded."""

    lines: bytes
    sized: bool
    events: bool


def block(headers: Headers) -> Block:
    named = {LOWERED[name]: value for name, value in headers}
    events = named.get(b"content-type", b"").lower().startswith(b"text/event-stream")
    plain = b"content-encoding" not in named
    return Block(lines(headers), b"content-length" in named, events and plain)


@lru_cache(_ANSWERS_MAX)
def sent_on(headers: tuple[tuple[bytes, bytes], ...], without: frozenset[bytes]) -> Block:
    """Of a replica's answer, but for the names in `without`. Its answers begin alike."""
    return block(end_to_end(headers, without))


def answer_head(status: int, headers: Iterable[tuple[bytes, bytes]], before: bytes = b"") -> bytes:
    """`before` are lines of other headers."""
    first = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"%b%b%b\r\n" % (first, before, lines(headers))


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])
