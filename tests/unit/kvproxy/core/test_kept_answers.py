import pytest

from kvproxy.core.kept_answers import answer_room, keep_answer
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.types import Usage


@pytest.mark.parametrize(
    ("prompt", "completion", "room"), [(0, 1, 16), (16, 16, 16), (17, 1, 16), (31, 2, 32)]
)
def test_an_answer_takes_whole_blocks_behind_the_last_whole_one(
    prompt: int, completion: int, room: int
) -> None:
    assert answer_room(Usage(prompt, completion, 0), 16) == room


def test_an_answer_is_as_old_as_its_prompt_and_kept_once() -> None:
    tree = PrefixTree(100)
    for at in (5.0, 6.0):
        keep_answer(tree, 7, 32, at, 300.0)
        victim = tree.next_victim()
        assert victim is not None
        assert (victim.used_at, victim.retention_s, tree.size) == (at, 300.0, 32)
    assert tree.match([7]) == 0
