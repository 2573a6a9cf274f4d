"""What a client's connection may do next, as a table. It reads one request, answers it, and only
then looks at what came behind it."""

from enum import StrEnum


class State(StrEnum):
    IDLE = "idle"  # between requests
    HEAD = "head"  # inside a request's head
    BODY = "body"  # the head is read and the request under way, its body still comes
    ANSWER = "answer"  # the request is whole; what comes now is the next one and has to wait
    LINGER = "linger"  # the last answer is out; what still comes is dropped, or it would be lost
    CLOSED = "closed"


class Event(StrEnum):
    BYTES = "bytes"
    HEAD_READ = "head read"
    BODY_READ = "body read"
    ANSWERED = "answered"
    ANSWERED_LAST = "answered last"
    LOST = "lost"


# Names of this module: an enumeration's attribute takes CPython 3.11 850 instructions.
IDLE, HEAD, BODY, ANSWER, LINGER, CLOSED = State
BYTES, HEAD_READ, BODY_READ, ANSWERED, ANSWERED_LAST, LOST = Event


NEXT: dict[State, dict[Event, State]] = {
    State.IDLE: {Event.BYTES: State.HEAD},
    State.HEAD: {Event.HEAD_READ: State.BODY, Event.ANSWERED_LAST: State.LINGER},
    State.BODY: {Event.BODY_READ: State.ANSWER, Event.ANSWERED_LAST: State.LINGER},
    State.ANSWER: {Event.ANSWERED: State.IDLE, Event.ANSWERED_LAST: State.LINGER},
    State.LINGER: {},
    State.CLOSED: {},
}


# The connection may be lost at any time.
_AFTER = {(state, event): then for state, row in NEXT.items() for event, then in row.items()}
_AFTER |= {(state, Event.LOST): State.CLOSED for state in State}


def after(state: State, event: Event) -> State:
    try:
        return _AFTER[state, event]
    except KeyError:
        raise AssertionError(f"{event} while {state}") from None
