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


NEXT: dict[State, dict[Event, State]] = {
    State.IDLE: {Event.BYTES: State.HEAD},
    State.HEAD: {Event.HEAD_READ: State.BODY, Event.ANSWERED_LAST: State.LINGER},
    State.BODY: {Event.BODY_READ: State.ANSWER, Event.ANSWERED_LAST: State.LINGER},
    State.ANSWER: {Event.ANSWERED: State.IDLE, Event.ANSWERED_LAST: State.LINGER},
    State.LINGER: {},
    State.CLOSED: {},
}


def after(state: State, event: Event) -> State:
    """The connection may be lost at any time; anything else only where the table says so."""
    if event is Event.LOST:
        return State.CLOSED
    assert event in NEXT[state], f"{event} while {state}"
    return NEXT[state][event]
