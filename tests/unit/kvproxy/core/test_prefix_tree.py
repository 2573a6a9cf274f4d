"""Single cases; the comparison with a block pool over random ones is in tests/property."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.prefix_tree import PrefixTree


def use(tree: PrefixTree, *hashes: int, size: int = 1) -> None:
    """One request for these blocks, from start to end."""
    end, held = tree.pin(hashes)
    ends = [size * (index + 1) for index in range(len(hashes))]
    tree.release(tree.extend(end, hashes[held:], ends[held:]))


def test_an_empty_tree_holds_nothing() -> None:
    tree = PrefixTree(10)
    assert tree.match([1, 2]) == 0
    assert tree.match([]) == 0
    assert tree.size == tree.runs == 0


def test_what_was_used_matches_up_to_where_it_differs() -> None:
    tree = PrefixTree(10)
    use(tree, 1, 2, 3)
    assert tree.match([1, 2, 3, 4]) == 3
    assert tree.match([1, 2, 9]) == 2
    assert tree.match(array("Q", [1])) == 1
    assert tree.match([2, 3]) == 0
    assert tree.size == 3


def test_whether_others_go_on_where_a_chain_stops_to_match() -> None:
    tree = PrefixTree(4)
    assert tree.find([1]) == (0, False)
    use(tree, 1, 2, 3)
    assert tree.find([1, 2, 9]) == (2, True)
    assert tree.find([1, 2, 3, 4]) == (3, False)
    use(tree, 1, 2, 7)
    assert tree.find([1, 2, 9]) == (2, True)
    use(tree, 5)
    assert tree.find([1, 2, 3]) == (2, True), "the older branch was evicted"
    use(tree, 8)
    assert tree.find([1, 2, 7]) == (2, False), "and now the other"
    assert tree.find([9]) == (0, True)


def test_a_fork_shares_its_prefix() -> None:
    tree = PrefixTree(10)
    use(tree, 1, 2, 3)
    use(tree, 1, 2, 7, 8)
    assert (tree.size, tree.runs) == (5, 3)
    assert tree.match([1, 2, 3]) == 3
    assert tree.match([1, 2, 7, 8]) == 4


def test_a_chain_whose_length_was_misjudged_is_put_right() -> None:
    tree = PrefixTree(100)
    end, _ = tree.pin([1, 2])
    end = tree.extend(end, [1, 2], [10, 20])
    tree.correct(end, 23)
    assert (tree.size, list(end.ends)) == (23, [10, 23])
    tree.correct(end, 7)
    assert (tree.size, list(end.ends)) == (7, [7, 7])
    end = tree.extend(end, [3], [9])
    tree.correct(end, 8)
    assert (tree.size, list(end.ends)) == (8, [7, 7, 8])
    tree.release(end)
    tree.resize(7)
    assert tree.match([1, 2, 3]) == 2


def test_where_chains_part() -> None:
    tree = PrefixTree(10)
    use(tree, 1, 2, 3)
    assert tree.parting([1, 2, 3], 3) is None, "it just ends"
    assert tree.parting([1, 2, 3], 2) is None, "nobody else goes on there"
    use(tree, 1, 2, 7, 8)
    parting = tree.parting([1, 2, 7, 8], 2)
    assert parting is not None
    assert parting.end == 2
    assert tree.parting([1, 2, 7, 8], 1) is None
    assert tree.parting([1, 2, 7, 8], 3) is None
    assert tree.parting([5], 1) is None


@given(st.integers(0, 60))
def test_where_chains_part_may_lie_elsewhere_than_was_believed(position: int) -> None:
    tree = PrefixTree(1000)
    for hashes, ends in (([1, 2, 3], [10, 20, 50]), ([1, 2, 4], [10, 20, 40])):
        end, held = tree.pin(hashes)
        tree.release(tree.extend(end, hashes[held:], ends[held:]))
    parting = tree.parting([1, 2, 3], 2)
    assert parting is not None
    tree.place(parting, position)
    between = min(position, 40)
    assert list(parting.ends) == [min(10, between), between]
    assert tree.size == between + (50 - between) + (40 - between)


def test_what_is_dropped_is_neither_held_nor_evicted_later() -> None:
    tree = PrefixTree(10)
    use(tree, 1)
    use(tree, 2, 3)
    end, _ = tree.pin([2, 3])
    tree.drop(2)
    assert tree.match([2, 3]) == 2, "it is in use"
    tree.release(end)
    use(tree, 2, 3, 4)
    for first in (1, 2, 9):
        tree.drop(first)
    assert (tree.match([1]), tree.match([2, 3, 4])) == (0, 0 if tree.size == 0 else 3)
    use(tree, 1)
    tree.resize(0)
    assert (tree.size, tree.runs) == (0, 0)


def test_the_tail_of_the_oldest_goes_first() -> None:
    tree = PrefixTree(6)
    use(tree, 1, 2, 3)
    use(tree, 11, 12, 13)
    use(tree, 21, 22)
    assert tree.match([1, 2, 3]) == 1
    assert tree.match([11, 12, 13]) == 3
    assert tree.evicted == 2


def test_use_makes_a_prefix_young_again() -> None:
    tree = PrefixTree(6)
    use(tree, 1, 2, 3)
    use(tree, 11, 12, 13)
    use(tree, 1, 2, 3)
    use(tree, 21, 22)
    assert tree.match([1, 2, 3]) == 3
    assert tree.match([11, 12, 13]) == 1


def test_pinned_blocks_stay_even_beyond_capacity() -> None:
    tree = PrefixTree(3)
    first = tree.extend(tree.pin([1, 2])[0], [1, 2], [1, 2])
    second = tree.extend(tree.pin([8, 9])[0], [8, 9], [1, 2])
    assert tree.size == 4 > tree.capacity
    tree.release(first)
    assert tree.size == 3
    assert tree.match([1, 2]) == 1
    assert tree.match([8, 9]) == 2
    tree.release(second)


def test_a_shared_pin_is_kept_until_the_last_release() -> None:
    tree = PrefixTree(100)
    one = tree.extend(tree.pin([1, 2])[0], [1, 2], [1, 2])
    two, held = tree.pin([1, 2])
    assert held == 2
    tree.release(one)
    tree.clear()
    assert tree.match([1, 2]) == 2
    tree.release(two)
    tree.clear()
    assert tree.match([1, 2]) == tree.size == tree.runs == 0


def test_weighted_blocks_are_evicted_whole() -> None:
    tree = PrefixTree(30)
    use(tree, 1, 2, 3, size=10)
    use(tree, 9, size=1)
    assert tree.match([1, 2, 3]) == 2
    assert tree.size == 21


def test_a_smaller_size_takes_effect_at_once() -> None:
    tree = PrefixTree(10)
    use(tree, *range(1, 11))
    tree.resize(4)
    assert tree.size == tree.match(range(1, 11)) == 4
    tree.resize(10)
    assert tree.size == 4


def test_without_capacity_nothing_stays() -> None:
    tree = PrefixTree(0)
    use(tree, 1, 2, 3)
    assert tree.match([1]) == tree.size == 0


def test_releasing_twice_is_a_bug() -> None:
    tree = PrefixTree(10)
    end, _ = tree.pin([1])
    end = tree.extend(end, [1], [1])
    tree.release(end)
    with pytest.raises(AssertionError, match="released twice"):
        tree.release(end)


def test_extending_where_blocks_are_held_already_is_a_bug() -> None:
    tree = PrefixTree(10)
    use(tree, 1, 2)
    end, _ = tree.pin([1])
    with pytest.raises(AssertionError, match="where pin"):
        tree.extend(end, [2], [2])


def test_stale_heap_entries_are_bounded() -> None:
    tree = PrefixTree(10)
    for _ in range(5000):
        use(tree, 1, 2, 3)
        use(tree, 4, 5)
    assert len(tree._leaves) <= 2 * tree.runs + 65


def used_at(tree: PrefixTree) -> float | None:
    victim = tree.next_victim()
    return victim.used_at if victim is not None else None


def test_when_the_next_victim_was_used() -> None:
    tree = PrefixTree(10)
    assert used_at(tree) is None
    for at, hashes in ((1.0, [1, 2]), (2.0, [3]), (3.0, [1, 2, 4])):
        end, held = tree.pin(hashes)
        assert at == 1.0 or used_at(tree) == (2.0 if at == 3.0 else 1.0)
        tree.release(tree.extend(end, hashes[held:], range(held + 1, len(hashes) + 1)), at)
    assert used_at(tree) == 2.0
    end, _ = tree.pin([3])
    assert used_at(tree) == 3.0
    tree.pin([1, 2, 4])
    assert used_at(tree) is None
    tree.release(end, 9.0)
    assert used_at(tree) == 9.0


def test_what_took_no_room_is_evicted_too() -> None:
    tree = PrefixTree(50)
    for key in range(1, 201):
        end = tree.extend(tree.pin(array("Q", [key]))[0], array("Q", [key]), array("I", [12]))
        tree.correct(end, 0)
        tree.release(end, float(key))
    assert tree.runs <= 50
    tree.resize(0)
    assert tree.runs == 0


def test_an_engine_that_counts_next_to_nothing_does_not_fill_memory() -> None:
    tree = PrefixTree(100_000)
    for key in range(0, 5_000_000, 500):
        hashes = array("Q", range(key, key + 500))
        end = tree.extend(tree.pin(hashes)[0], hashes, array("I", range(25, 12_525, 25)))
        tree.correct(end, 16)
        tree.release(end)
    assert tree.blocks == tree.blocks_max == 25_000
    assert tree.match(range(key, key + 500)) == 500
    assert tree.match(range(key - 25_000, key - 24_500)) == 0
    tree.resize(0)
    assert tree.size == tree.runs == 0
