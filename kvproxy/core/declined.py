"""What an engine says of itself by how it answers: that it is well or not, and how long it asks to
be left alone.

Retry-After tells one client; the next one does not know. So kvproxy counts that time as the
replica's queue: work goes elsewhere or waits here, and comes back when it said.
"""

from collections.abc import Sequence

from kvproxy.core.headers import LOWERED
from kvproxy.core.life_cycle import Evidence

_ILL = frozenset({500, 502, 503, 504})
# Those that Retry-After goes with.
_BUSY = frozenset({429, 503})
# Whoever says more is believed that much: a mistake there must not take a replica out for a day.
WAIT_MAX_S = 60.0
# Statuses that another replica may not answer with.
DECLINES = frozenset({429, 500, 502, 503, 504})


def said(status: int, headers: Sequence[tuple[bytes, bytes]]) -> tuple[Evidence, float]:
    """What an answer is evidence of, and the seconds it asks for, 0 if none."""
    evidence = Evidence.FAILED if status in _ILL else Evidence.ANSWERED
    return evidence, _wait_s(headers) if status in _BUSY else 0.0


def outcome_of(status: int) -> str:
    """What metrics and logs call an answer: `refused` is the client's fault, as the engine sees
    it."""
    if status >= 500:
        return "upstream_error"
    if status >= 400:
        return "upstream_declined" if status == 429 else "refused"
    return "ok"


def _wait_s(headers: Sequence[tuple[bytes, bytes]]) -> float:
    """Of dates, which engines do not send, nothing is made."""
    for name, value in headers:
        if LOWERED[name] == b"retry-after" and value.isdigit():
            return min(WAIT_MAX_S, float(value))
    return 0.0
