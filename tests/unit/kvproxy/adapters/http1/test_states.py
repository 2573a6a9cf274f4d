import pytest

from kvproxy.adapters.http1.states import NEXT, Event, State, after


def test_every_state_has_a_row_and_is_reached() -> None:
    assert set(NEXT) == set(State)
    reached = {state for row in NEXT.values() for state in row.values()}
    assert reached | {State.CLOSED} == set(State)


@pytest.mark.parametrize("state", State)
def test_a_connection_may_be_lost_at_any_time(state: State) -> None:
    assert after(state, Event.LOST) is State.CLOSED


@pytest.mark.parametrize("event", [event for event in Event if event is not Event.LOST])
def test_only_what_the_table_says(event: Event) -> None:
    for state in State:
        if event in NEXT[state]:
            assert after(state, event) is NEXT[state][event]
        else:
            with pytest.raises(AssertionError):
                after(state, event)
