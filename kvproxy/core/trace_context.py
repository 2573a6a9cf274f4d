"""W3C Trace Context: whose trace a request belongs to, and how the next one is told.

What a client sends is taken for what it says or not at all: a header that is not exactly as the
recommendation has it begins a new trace, and its `tracestate` is not passed on either.
"""

import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from kvproxy.core.headers import LOWERED, text

SAMPLED = 0x01
# Level 2: the trace id was drawn at random. Whoever continues a trace repeats it.
_RANDOM = 0x02
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_PARENT_BYTES_MAX = 256
_KEY = r"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_MEMBER = re.compile(rf"(?:{_KEY})=[ -+\--<>-~]{{0,255}}[!-+\--<>-~]")
_MEMBERS_MAX = 32
_STATE_BYTES_MAX = 8192

Headers = Sequence[tuple[bytes, bytes]]


class Parent(Struct, frozen=True, gc=False):
    """The span that caused a request: ids in hex, `flags` as they go on, `state` one line."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)


def parent_of(headers: Headers) -> Parent | None:
    """What `traceparent` and `tracestate` say; None where that is nothing that can be continued."""
    given = [value for name, value in headers if LOWERED[name] == b"traceparent"]
    if len(given) != 1 or len(given[0]) > _PARENT_BYTES_MAX:
        return None
    found = _PARENT.fullmatch(text(given[0]).strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    states = [text(value) for name, value in headers if LOWERED[name] == b"tracestate"]
    state = ",".join(states) if states else ""
    known = int(flags, 16) & (SAMPLED | _RANDOM)
    return Parent(trace_id, span_id, known, state if _is_state(state) else "")


def traceparent(trace_id: str, span_id: str, flags: int) -> bytes:
    return f"00-{trace_id}-{span_id}-{flags:02x}".encode()


def told(headers: Headers, parent: bytes, *, keeps_state: bool) -> list[tuple[bytes, bytes]]:
    """`headers` with this `traceparent` for any other; `tracestate` belongs to the trace."""
    gone = (b"traceparent",) if keeps_state else (b"traceparent", b"tracestate")
    kept = [pair for pair in headers if LOWERED[pair[0]] not in gone]
    kept.append((b"traceparent", parent))
    return kept


def is_sampled(trace_id: str, share: float) -> bool:
    """By the id alone, so that all who see a trace with the same share decide alike."""
    return int(trace_id[16:], 16) < round(share * 2**64)


def new_id(draw: Callable[[int], bytes], size: int) -> str:
    """An id of `size` bytes that is not all zeros, in hex; `draw` gives random bytes."""
    while not any(drawn := draw(size)):
        pass
    return drawn.hex()


def _is_state(state: str) -> bool:
    if len(state) > _STATE_BYTES_MAX:
        return False
    members = [member for each in state.split(",") if (member := each.strip(" \t"))]
    if not 0 < len(members) <= _MEMBERS_MAX:
        return False
    return all(_MEMBER.fullmatch(member) for member in members)
