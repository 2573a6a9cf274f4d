from kvproxy.core.trace import Trace, Wait
from kvproxy.core.trace_context import Parent


def test_the_state_of_a_trace_is_that_of_whoever_began_it() -> None:
    assert Trace("t", "s", 1).state == ""
    assert Trace("t", "s", 1, Parent("t", "p", 1, "a=1")).state == "a=1"


def test_notes_of_two_requests_are_apart() -> None:
    one, other = Trace("t", "s", 1), Trace("t", "s", 1)
    assert one.legs is not other.legs
    assert one.waits is not other.waits


def test_what_was_noted_is_let_go_in_the_end() -> None:
    trace = Trace("t", "s", 1)
    trace.waits.append(Wait(1.0))
    trace.let_go()
    assert trace.waits == []
