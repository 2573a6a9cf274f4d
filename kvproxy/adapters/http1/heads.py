"""Header blocks as they are sent. Names, values and their order are those that were received."""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from kvproxy.core.headers import end_to_end
from kvproxy.proxy import Headers

# Replaced by us on the way to a replica, or ours alone.
_NOT_FORWARDED = frozenset(
    {b"content-length", b"expect", b"host", b"x-kvproxy-decision", b"x-request-id"}
)
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


def request_head(
    method: str,
    target: str,
    host: bytes,
    headers: Headers,
    own: Iterable[tuple[bytes, bytes]],
    *,
    kept: frozenset[bytes] = frozenset(),
) -> bytes:
    """`own` replace the client's headers of those names; those in `kept` go no further."""
    own = list(own)
    replaced = _replaced(kept, tuple([name for name, _ in own]))
    first = f"{method} {target} HTTP/1.1\r\n".encode("latin-1")
    return _block(first + b"Host: " + host + b"\r\n", [*end_to_end(headers, replaced), *own])


@lru_cache(256)
def _replaced(kept: frozenset[bytes], own: tuple[bytes, ...]) -> frozenset[bytes]:
    return _NOT_FORWARDED.union(kept, own)


def answer_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return _block(_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, headers)


def _block(first: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([first, *[b"%b: %b\r\n" % pair for pair in headers], b"\r\n"])
