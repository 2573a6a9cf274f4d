"""What a request's head says; and heads that were read before, for the same bytes say the same.

A client's requests have one head, but for the length of their bodies. So a head that llhttp took is
remembered by its bytes around that figure, and need not be taken apart again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kvproxy.proxy import Headers

# As clients spell it; others are read each time. No length of so few digits overflows.
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]{1,15})\r\n")
# With these 512 heads are some 2 MB, at most 10.
_HEADS_MAX, _HEAD_BYTES_MAX = 512, 2048
# Heads larger than these are not expected again: who repeats one sends a token, not a page.
LASTING_BYTES_MAX, LASTING_HEADERS_MAX = 8192, 48


@dataclass(frozen=True, slots=True)
class Head:
    """`headers` are a tuple if they may come again; `header` has lower-case names, the last value
    wins. Content-Length, which is the body's, is in neither. `target` is path and query, `path` is
    as engines read it, `claims` that it says where the request came from, `request_id` one that may
    be repeated, else empty."""

    method: str
    target: str
    path: str
    headers: Headers
    header: Mapping[str, str]
    request_id: str
    keep_alive: bool
    http10: bool = False
    claims: bool = False
    tunnels: bool = False


class KnownHeads:
    """The oldest goes when there are too many: if it is still in use it comes back."""

    def __init__(self, heads_max: int = _HEADS_MAX) -> None:
        self._max = heads_max
        self._known: dict[tuple[bytes, bytes], Head] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes, end: int) -> tuple[Head, int] | None:
        """What the head data[:end] says, and the length that it states."""
        length = _LENGTH.search(data, 0, end)
        if length is None:
            return None
        begins, ends = length.span(1)
        head = self._known.get((data[:begins], data[ends:end]))
        return None if head is None else (head, int(length[1]))

    def add(self, data: bytes, end: int, head: Head) -> None:
        """`data[:end]` was found to say `head`: a whole one, whatever length stands in it."""
        length = _LENGTH.search(data, 0, end)
        if length is None or end > _HEAD_BYTES_MAX or not self._max:
            return
        if len(self._known) >= self._max:
            del self._known[next(iter(self._known))]
        begins, ends = length.span(1)
        self._known[data[:begins], data[ends:end]] = head
