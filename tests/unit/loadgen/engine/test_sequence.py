import pytest

from loadgen.engine.messages import Request
from loadgen.engine.sequence import Sequence, Step


def test_known_and_remaining_follow_generation():
    sequence = Sequence(Request("a", b"", 100, 10), 0.0)
    sequence.generated = 4
    assert (sequence.known, sequence.remaining) == (104, 6)


def test_a_step_ends_in_pieces():
    step = Step(10.0, 0.1, [], [], repeats=10)
    assert [step.due(at) for at in (9.0, 10.05, 10.1, 10.35, 11.0, 99.0)] == [0, 0, 1, 3, 10, 10]
    step.done = 3
    assert [step.due(at) for at in (10.3, 10.4, 11.0)] == [0, 1, 7]
    assert step.time_after(10) == pytest.approx(11.0)


@pytest.mark.parametrize("steps", [1, 2, 7, 999])
def test_a_step_is_due_at_the_time_it_names(steps):
    step = Step(0.1, 0.1 / 3, [], [], repeats=1000)
    assert step.due(step.time_after(steps)) == steps
