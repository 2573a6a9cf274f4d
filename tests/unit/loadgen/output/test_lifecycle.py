from dataclasses import replace

from loadgen.output.lifecycle import COLUMNS, lifecycle, turns_of
from loadgen.traces.model import SubAgent
from tests.support.samples import sample
from tests.support.traces import growing

TURNS = {"c": 2, "c:a1": 1, "d": 3}


def test_every_conversation_begins_and_ends_once() -> None:
    made = [
        sample(turn=1, t_intended=4.0, t_end=6.0, error="http_5xx"),  # ended out of order
        sample(turn=0, t_intended=1.0, t_end=2.0),
        sample(agent="a1", t_intended=2.5, t_end=3.0),
        sample(conversation="d-1-0", trace="d", t_intended=5.0, t_end=5.5),
    ]
    rows = lifecycle(made, TURNS, 10.0)
    assert all(tuple(row) == COLUMNS for row in rows)
    assert [tuple(row.values())[:4] for row in rows] == [
        (10.0, "c-1-0", "started", "c"),
        (25.0, "c-1-0.a1", "started", "c:a1"),
        (30.0, "c-1-0.a1", "completed", "c:a1"),
        (50.0, "d-1-0", "started", "d"),
        (55.0, "d-1-0", "truncated", "d"),
        (60.0, "c-1-0", "completed", "c"),
    ]
    assert rows[-1]["details"] == "2 requests, 1 failed"
    assert rows[0]["details"] == "turn 0, 1000 tokens"


def test_a_conversation_cut_in_its_last_turn_is_not_complete() -> None:
    cut = sample(
        turn=1, t_intended=7.0, t_sent=None, t_first_token=None, t_end=None, error="cancelled"
    )
    first, last = lifecycle([cut], TURNS, 1.0)
    assert first["details"] == "turn 1, 1000 tokens"
    assert (last["event_type"], last["timestamp"]) == ("truncated", 7.0)
    assert last["details"] == "1 requests, 0 failed"


def test_plays_of_one_trace_are_users_of_their_own() -> None:
    made = [sample(turn=1), sample(turn=1, conversation="c-1-1")]
    assert [row["user_id"] for row in lifecycle(made, TURNS, 1.0)].count("c-1-1") == 2
    assert lifecycle([], TURNS, 1.0) == []


def test_turns_are_counted_by_trace_and_sub_agent() -> None:
    trace = growing("t", [64, 128])
    agent = SubAgent("a1", 0.0, trace.turns[:1], 20)
    assert turns_of([replace(trace, steps=(agent, *trace.steps))]) == {"t": 2, "t:a1": 1}
