import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.line import Line, Ticket
from kvproxy.core.score import Score
from kvproxy.core.types import Chain, Identity


def ticket(entered_at: float, prefill_s: float) -> Ticket:
    made = Ticket(Identity("", "m", "s"), Chain(), entered_at)
    made.score = Score.FREE._replace(prefill_s=prefill_s)
    return made


def test_the_oldest_stands_first_whenever_it_came() -> None:
    line = Line()
    tickets = [ticket(at, 1.0) for at in (3.0, 1.0, 2.0)]
    for one in tickets:
        line.join(one)
    assert [one.entered_at for one in line] == [1.0, 2.0, 3.0]
    assert line.oldest is tickets[1]
    line.leave(tickets[1])
    assert line.oldest is tickets[2]
    assert len(line) == 2


TAKEN = st.lists(st.floats(0, 10), max_size=12)


@given(TAKEN, TAKEN, st.floats(0, 11), st.data())
def test_those_ahead_are_those_that_take_no_longer(
    before: list[float], after: list[float], own_s: float, data: st.DataObject
) -> None:
    line = Line()
    for seconds in before:
        line.join(ticket(0.0, seconds))
    line.ahead_s(own_s)
    for seconds in after:
        line.join(ticket(0.0, seconds))
    if len(line):
        line.leave(data.draw(st.sampled_from(list(line))))
    if len(line):
        line.expect(data.draw(st.sampled_from(list(line))), 5.0)
    there = [one.score.prefill_s for one in line]
    expected = sum(taken_s for taken_s in there if taken_s <= own_s)
    assert line.ahead_s(own_s) == pytest.approx(expected)
