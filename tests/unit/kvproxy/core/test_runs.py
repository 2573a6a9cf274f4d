from array import array
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.runs import Run


class Late:
    def __init__(self, ends: list[int], held: int) -> None:
        self.all = ends
        self.held = held
        self.asked = 0

    def ends(self, blocks: int, least: int) -> "array[int]":
        self.asked += 1
        ends = self.all[self.held : self.held + blocks]
        return array("I", [max(least, end) for end in ends])

    def reach(self, blocks: int, end: int, position: int) -> tuple[int, int]:
        ends = [*self.all[self.held : self.held + blocks - 1], end]
        reached = bisect_right(ends, position)
        return reached, self.all[self.held + reached - 1] if reached else 0


def make_run(hashes: list[int], ends: list[int], end: int, parent: Run | None = None) -> Run:
    return Run(parent, array("Q", hashes), array("I", ends), end)


def test_what_is_put_off_is_asked_for_once() -> None:
    late = Late([10, 20, 30], 1)
    run = make_run([1, 2, 3], [10], 30)
    run.put_off(late)
    assert (run.end, run.first_end, late.asked) == (30, 10, 0)
    assert list(run.ends) == list(run.ends) == [10, 20, 30]
    assert (late.asked, run.later) == (1, None)


def test_who_comes_later_tells_of_what_was_put_off_before() -> None:
    before, now = Late([10, 20], 0), Late([11, 22, 33], 2)
    run = make_run([1, 2], [], 20)
    run.put_off(before)
    run.hashes.append(3)
    run.end = 33
    run.put_off(now)
    assert list(run.ends) == [11, 22, 33]
    assert not before.asked


def test_ends_that_are_told_late_lie_between_what_is_known() -> None:
    parent = make_run([7], [15], 15)
    run = make_run([1, 2, 3], [], 25, parent)
    run.put_off(Late([10, 20, 30], 0))
    assert list(run.ends) == [15, 20, 25]


@given(st.integers(0, 60), st.integers(0, 3))
def test_the_end_moves_whether_the_others_are_known_or_not(position: int, known: int) -> None:
    ends = [10, 20, 40]
    plain, late = make_run([1, 2, 3], ends, 40), make_run([1, 2, 3], ends[:known], 40)
    if known < len(ends):
        late.put_off(Late(ends, known))
    plain.move_end(position)
    late.move_end(position)
    assert plain.end == late.end == position
    assert list(plain.ends) == list(late.ends)


@given(st.integers(0, 45), st.integers(0, 4), st.integers(0, 3))
def test_a_run_is_cut_alike_whether_its_ends_are_known_or_not(
    position: int, most: int, known: int
) -> None:
    ends, parent = [10, 20, 20, 40], make_run([7], [5], 5)
    plain, late = (make_run([1, 2, 3, 4], part, 40, parent) for part in (ends, ends[:known]))
    told = Late(ends, known)
    late.put_off(told)
    # A tree has let go of all of it before that.
    position = max(position, 5)
    assert plain.cut(position, most) == late.cut(position, most) == len(late.hashes)
    assert not told.asked or most < 4 or position >= 40 or position < ends[known - 1]
    assert plain.end == late.end
    if late.hashes:
        assert list(plain.ends) == list(late.ends)


def test_the_last_block_ends_where_the_run_does_whatever_is_estimated() -> None:
    run = make_run([1, 2, 3], [], 50)
    run.put_off(Late([10, 20, 30], 0))
    assert run.cut(40, 3) == 2
    assert run.end == 20


def test_what_tells_of_other_blocks_is_a_bug() -> None:
    run = make_run([1, 2, 3], [], 40)
    run.put_off(Late([10, 40], 0))
    with pytest.raises(AssertionError):
        assert run.ends


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(0, 8))
def test_how_many_blocks_are_alike(symbols: list[int], cut: int) -> None:
    hashes = [index * 4 + symbol for index, symbol in enumerate(symbols)]
    other = hashes[:cut] + [100 + index for index in range(len(hashes) - cut)]
    run = make_run(hashes, list(range(len(hashes))), len(hashes))
    assert run.common([9, *other], 1) == min(cut, len(hashes))
