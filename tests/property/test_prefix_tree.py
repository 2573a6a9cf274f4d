"""The prefix tree against vLLM's pool, block by block, over random interleavings."""

from array import array
from bisect import bisect_right
from itertools import accumulate

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from xxhash import xxh3_64_intdigest

from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.runs import Run
from tests.support.naive_block_pool import NaiveBlockPool, NaiveHold

PATHS = st.lists(st.integers(0, 2), max_size=9)
CAPACITIES = st.integers(0, 60)


def chain_of(path: list[int], root: int) -> list[int]:
    hashes: list[int] = []
    for symbol in path:
        root = xxh3_64_intdigest(bytes([symbol]), root)
        hashes.append(root)
    return hashes


class Late:
    """What is asked for late is what would have been said at once."""

    def __init__(self, ends: list[int], held: int) -> None:
        self.all = ends
        self.held = held

    def ends(self, blocks: int, least: int) -> "array[int]":
        ends = array("I", self.all[self.held : self.held + blocks])
        assert not ends or ends[0] >= least
        return ends

    def reach(self, blocks: int, end: int, position: int) -> tuple[int, int]:
        assert end == self.all[self.held + blocks - 1] > position
        reached = bisect_right(self.ends(blocks, 0), position)
        return reached, self.all[self.held + reached - 1] if reached else 0


class Holding:
    def __init__(self, path: list[int], end: Run, twin: NaiveHold) -> None:
        self.path = path
        self.end = end
        self.twin = twin


class TreeAndTwin(RuleBasedStateMachine):
    """`unit` sizes make blocks alike, as in an engine; otherwise they weigh 0 to 7."""

    unit = False
    holdings: Bundle[Holding] = Bundle("holdings")

    def __init__(self) -> None:
        super().__init__()
        self.tree = PrefixTree(20)
        self.twin = NaiveBlockPool(20)
        self.now = 0.0
        self.seen: set[tuple[int, ...]] = set()
        self.open: list[Holding] = []

    def size_of(self, block_hash: int) -> int:
        return 1 if self.unit else block_hash % 8

    def ends_of(self, hashes: list[int]) -> list[int]:
        return list(accumulate(self.size_of(key) for key in hashes))

    def add(self, end: Run, hashes: list[int], held: int, *, late: bool) -> Run:
        ends = self.ends_of(hashes)
        if late and hashes[held:]:
            added = array("Q", hashes[held:])
            return self.tree.grow(end, added, ends[-1], Late(ends, held))
        return self.tree.extend(end, hashes[held:], ends[held:])

    @rule(target=holdings, path=PATHS, late=st.booleans())
    def begin(self, path: list[int], late: bool) -> Holding:
        hashes = chain_of(path, 0)
        end, held = self.tree.pin(hashes)
        twin, held_by_twin = self.twin.pin(hashes)
        assert held == held_by_twin
        end = self.add(end, hashes, held, late=late)
        self.twin.extend(twin, hashes[held:], [self.size_of(key) for key in hashes[held:]])
        self.seen.add(tuple(path))
        holding = Holding(list(path), end, twin)
        self.open.append(holding)
        return holding

    @rule(target=holdings, path=PATHS)
    def begin_without_extending(self, path: list[int]) -> Holding:
        end, held = self.tree.pin(chain_of(path, 0))
        twin, held_by_twin = self.twin.pin(chain_of(path, 0))
        assert held == held_by_twin
        holding = Holding(path[:held], end, twin)
        self.open.append(holding)
        return holding

    @rule(holding=holdings, more=PATHS.filter(bool), late=st.booleans())
    def grow(self, holding: Holding, more: list[int], late: bool) -> None:
        path = holding.path + more
        hashes = chain_of(path, 0)
        start = len(holding.path)
        if self.twin.match(hashes) > start:
            return  # another request has brought these blocks since
        holding.end = self.add(holding.end, hashes, start, late=late)
        self.twin.extend(holding.twin, hashes[start:], [self.size_of(k) for k in hashes[start:]])
        holding.path = path
        self.seen.add(tuple(path))

    @rule(target=holdings, holding=consumes(holdings))
    def finish(self, holding: Holding) -> object:
        self.now += 1.0
        self.tree.release(holding.end, self.now)
        self.twin.release(holding.twin, self.now)
        self.open.remove(holding)
        return multiple()

    @rule(symbol=st.integers(10, 13))
    def keep(self, symbol: int) -> None:
        """A block that no path has, as an answer is."""
        self.now += 1.0
        [block] = hashes = chain_of([symbol], 0)
        size = max(1, self.size_of(block))
        twin, held = self.twin.pin(hashes)
        if not held:
            self.twin.extend(twin, hashes, [size])
        self.twin.release(twin, self.now)
        self.tree.keep(block, size, self.now)
        self.seen.add((symbol,))

    @rule()
    def reset(self) -> None:
        self.tree.clear()
        self.twin.clear()

    @rule(capacity=CAPACITIES)
    def resize(self, capacity: int) -> None:
        self.tree.resize(capacity)
        self.twin.resize(capacity)

    @invariant()
    def same_blocks(self) -> None:
        for path in self.seen:
            hashes = chain_of(list(path), 0)
            assert self.tree.match(hashes) == self.twin.match(hashes), path

    @invariant()
    def same_totals(self) -> None:
        assert self.tree.size == self.twin.size >= 0
        assert self.tree.evicted == self.twin.evicted

    @invariant()
    def same_victim(self) -> None:
        victim = self.tree.next_victim()
        used_at = victim.used_at if victim is not None else None
        assert used_at == self.twin.next_victim_used_at()

    @invariant()
    def pinned_blocks_stay(self) -> None:
        for holding in self.open:
            assert self.tree.match(chain_of(holding.path, 0)) == len(holding.path)

    @invariant()
    def consistent_and_bounded(self) -> None:
        runs, blocks = check_runs(self.tree._root)
        assert (self.tree.runs, self.tree.blocks) == (runs, blocks)
        assert len(self.tree._leaves) <= 2 * runs + 65
        if not self.open:
            assert self.tree.size <= self.tree.capacity
            assert self.tree.blocks <= self.tree.blocks_max


def check_runs(run: Run) -> tuple[int, int]:
    """Number of runs and blocks below `run`; parents, positions and pins agree all the way down."""
    count = blocks = 0
    for key, child in run.children.items():
        assert child.parent is run
        assert child.hashes[0] == key
        ends = ends_of(child)
        assert len(child.hashes) == len(ends)
        assert ends == sorted(ends)
        assert ends[0] >= run.end
        assert ends[-1] == child.end
        assert child.pins >= sum(below.pins for below in child.children.values()) >= 0
        below, held = check_runs(child)
        count, blocks = count + 1 + below, blocks + len(child.hashes) + held
    return count, blocks


def ends_of(run: Run) -> list[int]:
    """Without asking for good, which the next step may be about."""
    later = run.later
    blocks = len(run.hashes) - len(run._ends)
    return list(run._ends) + (list(later.ends(blocks, 0)) if later is not None else [])


class UnitTreeAndTwin(TreeAndTwin):
    unit = True


TestWeightedBlocks = TreeAndTwin.TestCase
TestUnitBlocks = UnitTreeAndTwin.TestCase
TestWeightedBlocks.settings = TestUnitBlocks.settings = settings(
    settings.get_profile("default"), max_examples=120, stateful_step_count=60
)
