import pytest

from kvproxy.core.kept_answers import (
    NO_REPEATS,
    answer_kept,
    answer_room,
    go_on,
    keep,
    keep_answer,
    kept_behind,
    repeats,
)
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.types import Usage
from tests.support.makers import make_replica


@pytest.mark.parametrize(
    ("prompt", "completion", "room", "kept"),
    [
        (0, 1, 16, 0),
        (0, 17, 32, 16),
        (16, 16, 16, 0),
        (16, 17, 32, 16),
        (17, 1, 16, 0),
        (31, 2, 32, 16),
        (31, 0, 16, 0),
        (32, 0, 0, 0),
    ],
)
def test_an_answer_takes_blocks_behind_the_last_whole_one_and_leaves_the_full_ones(
    prompt: int, completion: int, room: int, kept: int
) -> None:
    usage = Usage(prompt, completion, 0)
    assert (answer_room(usage, 16), answer_kept(usage, 16)) == (room, kept)


def test_an_answer_is_as_old_as_its_prompt_and_kept_once() -> None:
    tree = PrefixTree(100)
    for at in (5.0, 6.0):
        keep_answer(tree, 7, 32, at, 300.0)
        victim = tree.next_victim()
        assert victim is not None
        assert (victim.used_at, victim.retention_s, tree.size) == (at, 300.0, 32)
    assert tree.match([7]) == 0


def test_what_the_next_turn_repeats_is_its_own() -> None:
    tree = PrefixTree(100)
    keep_answer(tree, 7, 48, 1.0, 0.0)
    go_on(tree, 8)
    assert tree.size == 48
    go_on(tree, 7)
    go_on(tree, 7)
    assert tree.size == 0


def test_whether_an_answer_was_found_again() -> None:
    tree = PrefixTree(100)
    assert repeats(tree, 7, 32) is NO_REPEATS
    keep_answer(tree, 7, 48, 1.0, 0.0)
    answer = repeats(tree, 7, 32)
    assert (answer.start, answer.stop) == (32, 80)
    assert answer.found(80, 100) is True
    assert answer.found(64, 100) is False
    assert answer.found(16, 100) is None, "its prompt was evicted"
    assert answer.found(79, 80) is None, "the last token is always computed"
    assert NO_REPEATS.found(0, 100) is None


def test_a_second_tier_has_an_answer_where_it_stores_what_is_generated() -> None:
    replica, usage = make_replica(), Usage(16, 33, 0)
    keep(replica, 7, usage, 1.0, 0.0)
    replica.dram = PrefixTree(1000)
    keep(replica, 8, usage, 1.0, 0.0)
    assert [kept_behind(replica.hbm, prompt) for prompt in (7, 8)] == [32, 32]
    assert replica.dram.size == 0
    replica.saves_answers = True
    keep(replica, 9, Usage(16, 0, 0), 1.0, 0.0)
    keep(replica, 9, usage, 1.0, 0.0)
    assert kept_behind(replica.dram, 9) == 32
