import json

import pytest

from loadgen.traces.errors import TraceError
from loadgen.traces.rows import Labels, Row, conversations, is_row, parse_row


def row(at: float, tokens: int, ids: list[int], **extra: object) -> Row:
    entry = {"timestamp": at, "input_length": tokens, "output_length": 9, "hash_ids": ids}
    return parse_row(json.loads(json.dumps(entry | extra)), "f:1")


def test_mooncake_rows_are_conversations_of_one_turn() -> None:
    rows = [row(0, 1100, [0, 1, 2]), row(1500, 1600, [0, 1, 2, 3])]
    one, other = conversations(rows, "m.jsonl")
    assert (one.block_size, one.shared_ids, one.start_s, other.start_s) == (512, True, 0, 1.5)
    # The last id of each names a block that is not whole.
    assert [list(trace.turns[0].blocks) for trace in (one, other)] == [[0, 1], [0, 1, 2]]
    assert one.turns[0].input_tokens == 1100


def test_rows_that_continue_others_are_turns() -> None:
    rows = [
        row(10.5, 40, [1, 2, 3], chat_id=1, parent_chat_id=-1),
        row(11.5, 20, [7, 8], chat_id=2, parent_chat_id=-1),
        row(14.0, 70, [1, 2, 4, 5, 6], chat_id=3, parent_chat_id=1),
    ]
    first, second = conversations(rows, "b.jsonl")
    assert [turn.input_tokens for turn in first.turns] == [40, 70]
    assert [turn.think_s for turn in first.turns] == [0, 3.5]
    assert (second.start_s, len(second.turns)) == (1.0, 1)


def test_sessions_are_conversations() -> None:
    rows = [row(0.5, 40, [1, 2, 3], session_id="a"), row(2.5, 60, [1, 2, 4, 5], session_id="a")]
    (made,) = conversations(rows, "s.jsonl")
    assert made.id == "s.jsonl:a"
    assert [turn.t_s for turn in made.turns] == [0, 2]


def test_fields_may_have_other_names() -> None:
    labels = Labels("t", "in", "out", "ids")
    entry: dict[str, object] = {"t": 1, "in": 40, "out": 2, "ids": [1, 2, 3]}
    assert is_row(entry, labels)
    assert not is_row(entry)
    assert parse_row(entry, "f:1", labels).input_length == 40


def test_a_block_size_that_cannot_be_told_is_asked_for() -> None:
    with pytest.raises(TraceError, match="cannot be told"):
        conversations([row(0, 10, [1])], "x")
    (made,) = conversations([row(0, 10, [1])], "x", block_size=16)
    assert made.block_size == 16
    with pytest.raises(TraceError, match="do not fit blocks of 4"):
        conversations([row(0, 10, [1])], "x", block_size=4)


@pytest.mark.parametrize("bad", [{"input_length": -1}, {"hash_ids": ["x"]}, {"timestamp": None}])
def test_a_bad_field_is_named(bad: dict[str, object]) -> None:
    with pytest.raises(TraceError, match=f"f:1: .*{next(iter(bad))}"):
        row(0, 10, [1], **bad)
