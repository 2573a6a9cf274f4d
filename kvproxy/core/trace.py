"""What a request did, step by step: noted while it runs, told as spans when it is over.

Spans are called after the verbs of a request's life: accept, identify, admit, forward, learn. Times
are those of one monotonic clock, in seconds.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from kvproxy.core.placement import Placement
from kvproxy.core.trace_context import Parent

# Of one request: what is beyond them is counted, not told.
LEGS_MAX = 32

Value = str | int | float | bool


class Kind(StrEnum):
    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Event(Struct, frozen=True, gc=False):
    name: str
    at: float

    def at_ns(self, epoch_ns: int) -> int:
        return epoch_ns + round(self.at * 1e9)


class Span(Struct, frozen=True):
    """`error`: what class of error ended it, "" for none; `failed`: it counts as a failure. `state`
    is the trace's, and `remote` says that the parent is another program's."""

    name: str
    kind: Kind
    trace_id: str
    span_id: str
    parent_id: str
    began: float
    ended: float
    attributes: Mapping[str, Value]
    events: tuple[Event, ...] = ()
    error: str = ""
    failed: bool = False
    state: str = ""
    remote: bool = False

    def began_ns(self, epoch_ns: int) -> int:
        """Since 1970, when the clock's 0 was `epoch_ns`."""
        return epoch_ns + round(self.began * 1e9)

    def ended_ns(self, epoch_ns: int) -> int:
        return epoch_ns + round(max(self.began, self.ended) * 1e9)


class Wait(Struct):
    """One attempt to be placed; `after`: the error for which the one before it was given up."""

    began: float
    after: str = ""
    ended: float | None = None
    error: str = ""
    placement: Placement | None = None


class Leg(Struct):
    """One request to a replica. `span_id` is what the replica takes for its parent; `answers` is
    False where it only computes a prompt for another."""

    span_id: str
    placement: Placement
    answers: bool
    began: float
    ended: float | None = None
    status: int = 0
    error: str = ""


class Trace(Struct):
    """`span_id` is that of the whole request. Times are None until the step was taken."""

    trace_id: str
    span_id: str
    flags: int
    parent: Parent | None = None
    accepted: float | None = None
    identified: float | None = None
    learning: float | None = None
    learned: float | None = None
    waits: list[Wait] = field(default_factory=list)
    legs: list[Leg] = field(default_factory=list)
    untold: int = 0

    def let_go(self) -> None:
        """What was noted is told. Contexts that outlive the request, such as that of a connection
        which it opened, keep the trace, and must not keep what it placed."""
        self.waits.clear()
        self.legs.clear()

    @property
    def state(self) -> str:
        return self.parent.state if self.parent is not None else ""
