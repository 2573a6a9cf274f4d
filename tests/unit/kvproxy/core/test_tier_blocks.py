from array import array

from kvproxy.core.tier_blocks import TierBlocks
from kvproxy.core.word_map import Budget


def words(*values: int) -> "array[int]":
    return array("Q", values)


def test_each_copy_is_removed_once() -> None:
    budget = Budget(0)
    blocks = TierBlocks(budget)
    empty = budget.used
    blocks.add([1, 2], words(101, 102), 9, copies=True)
    blocks.add([2], words(102), 101, copies=True)
    assert blocks.contents() == {1: (101, 1), 2: (102, 2)}
    assert blocks.remove([2, 1]) == []
    assert blocks.contents() == {2: (102, 1)}
    assert blocks.remove([2, 2]) == [2]
    assert len(blocks) == 0
    assert budget.used == empty


def test_told_again_is_no_copy() -> None:
    blocks = TierBlocks(Budget(0))
    for _ in range(3):
        blocks.add([1, 2], words(101, 102), 9, copies=False)
    blocks.remove([1])
    assert blocks.ours(1) == 0
    assert blocks.ours(2) == 102


def test_one_copy_corrects_what_is_too_much() -> None:
    blocks = TierBlocks(Budget(0))
    blocks.add([1], words(101), 9, copies=True)
    blocks.add([1], words(101), 9, copies=True)
    blocks.one_copy([101, 5])
    blocks.remove([1])
    assert len(blocks) == 0


def test_two_names_of_an_engine_for_one_block() -> None:
    blocks = TierBlocks(Budget(0))
    blocks.add([1], words(101), 9, copies=True)
    blocks.add([2], words(101), 9, copies=True)
    blocks.remove([1])
    assert blocks.prefix(words(101)) == 1
    blocks.remove([2])
    assert blocks.prefix(words(101)) == 0


def test_prefixes_in_whole_strides() -> None:
    blocks = TierBlocks(Budget(0))
    blocks.stride = 4
    chain = words(*range(101, 111))
    blocks.add([1, 2], words(104, 108), 9, copies=True)
    assert blocks.prefix(chain) == 8
    assert blocks.prefix(chain[:7]) == 4
    assert blocks.prefix(chain, 5) == 8
    assert blocks.prefix(chain, 8) == 8
    blocks.remove([2])
    assert blocks.prefix(chain, 5) == 5


def test_paths_back_to_the_root() -> None:
    blocks = TierBlocks(Budget(0))
    blocks.add([1, 2], words(101, 102), 9, copies=True)
    blocks.add([3], words(103), 102, copies=True)
    assert blocks.path(103, 9, 10) == words(101, 102, 103)
    assert blocks.path(103, 9, 2) is None
    blocks.remove([1])
    assert blocks.path(103, 9, 10) is None
    assert blocks.parent(103) == 102


def test_release_gives_all_bytes_back() -> None:
    budget = Budget(0)
    blocks = TierBlocks(budget)
    blocks.add([1, 2], words(101, 102), 9, copies=True)
    blocks.add([1, 3], words(101, 102), 9, copies=True)
    blocks.release()
    assert budget.used == 0
