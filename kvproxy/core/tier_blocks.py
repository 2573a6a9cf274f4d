"""The blocks that one tier of one replica holds, by both of their names.

An engine names blocks by its own hashes, whose algorithm, seed and version we need not know; we
name them by ours, which are the same for every replica. Events are a multiset: an engine announces
and removes each physical copy of a block.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence

from kvproxy.core.kv_digest import Changes
from kvproxy.core.types import Tier
from kvproxy.core.word_map import Budget, WordMap

# Python's cost of an entry in a small dict of integers, for what is counted there.
_DICT_ENTRY_BYTES = 110


class TierBlocks:
    """`stride`: blocks of the chain in one entry; tiers with coarse chunks know only their ends.
    `group`: the one KV cache group that is followed, None until one is seen. `changes` is told
    what other proxies are to know."""

    __slots__ = (
        *("_aliases", "_budget", "_copies", "_ours", "_parents"),
        *("changes", "group", "stride", "tier"),
    )

    def __init__(
        self, budget: Budget, tier: Tier = Tier.HBM, changes: Changes | None = None
    ) -> None:
        self.tier = tier
        self.changes = changes
        self._budget = budget
        self._ours = WordMap(budget)
        self._parents = WordMap(budget)
        self._copies: dict[int, int] = {}
        self._aliases: dict[int, int] = {}
        self.stride = 1
        self.group: int | None = None

    def __len__(self) -> int:
        return len(self._ours)

    def ours(self, engine: int) -> int:
        """Our name of an engine's block, or 0."""
        return self._ours.get(engine)

    def parent(self, ours: int) -> int:
        """Our name of the block before, or 0 when `ours` is not held."""
        return self._parents.get(ours)

    def add(
        self, engines: Sequence[int], names: "array[int]", parent: int, *, copies: bool
    ) -> None:
        """Blocks that follow each other behind `parent`. Those held already are further copies if
        `copies`, else they are just told again."""
        if self.changes is not None:
            self.changes.added(self.tier, self.stride, parent, names)
        there = self._ours.add(engines, names)
        parents = array("Q", (parent,))
        parents.extend(names[:-1])
        if there:
            known = set(there)
            new = [at for at in range(len(names)) if at not in known]
            if copies:
                for at in there:
                    self._add_copy(names[at])
            names = array("Q", [names[at] for at in new])
            parents = array("Q", [parents[at] for at in new])
        for at in self._parents.add(names, parents):
            # What went into the engine's hash beside tokens is not always told.
            self._aliases[names[at]] = self._aliases.get(names[at], 0) + 1
            self._budget.used += _DICT_ENTRY_BYTES

    def remove(self, engines: Sequence[int]) -> list[int]:
        """One copy of each is gone; returns those of which none was known."""
        if self._copies:
            engines = [e for e in engines if not self._remove_copy(self._ours.get(e))]
        names = self._ours.pop(engines)
        gone = [ours for ours in names if ours and not self._remove_alias(ours)]
        self._parents.pop(gone)
        if self.changes is not None:
            self.changes.gone(self.tier, gone)
        return [engine for engine, ours in zip(engines, names, strict=True) if not ours]

    def _add_copy(self, ours: int) -> None:
        copies = self._copies.get(ours)
        if copies is None:
            self._budget.used += _DICT_ENTRY_BYTES
        self._copies[ours] = (copies or 0) + 1

    def _remove_copy(self, ours: int) -> bool:
        if ours not in self._copies:
            return False
        self._copies[ours] -= 1
        if not self._copies[ours]:
            self._forget_copies(ours)
        return True

    def _remove_alias(self, ours: int) -> bool:
        if ours not in self._aliases:
            return False
        self._aliases[ours] -= 1
        if not self._aliases[ours]:
            del self._aliases[ours]
            self._budget.used -= _DICT_ENTRY_BYTES
        return True

    def one_copy(self, chain: Iterable[int]) -> None:
        """These blocks are held once, whatever was announced."""
        for ours in chain if self._copies else ():
            if ours in self._copies:
                self._forget_copies(ours)

    def prefix(self, chain: "array[int]", start: int = 0, guess: int = 2**63) -> int:
        """End of the run of held blocks of `chain` that goes on at block `start`, or `start`.

        By bisection: a tier gives up the tail of a prefix before its head. `guess` is of use where
        it starts at 0.
        """
        stride = self.stride
        if start or stride > 1:
            first = start // stride
            entries = self._parents.prefix(chain[first * stride + stride - 1 :: stride])
            return (first + entries) * stride if entries else start
        return self._parents.prefix(chain, guess)

    def path(self, ours: int, root: int, blocks_max: int) -> "array[int] | None":
        """The chain that ends with `ours`, from its start; None if a link is missing."""
        return path_to(ours, root, self._parents.get, blocks_max)

    def shard(self, number: int) -> tuple[list[int], list[int]]:
        """Names and parents of a part of the blocks, by WordMap.shards."""
        return self._parents.shard(number)

    def contents(self) -> dict[int, tuple[int, int]]:
        """engine -> (ours, copies): O(blocks), for checks."""
        return {e: (ours, 1 + self._copies.get(ours, 0)) for e, ours in self._ours.items()}

    def release(self) -> None:
        self._ours.release()
        self._parents.release()
        self._budget.used -= _DICT_ENTRY_BYTES * (len(self._copies) + len(self._aliases))

    def _forget_copies(self, ours: int) -> None:
        del self._copies[ours]
        self._budget.used -= _DICT_ENTRY_BYTES


def path_to(
    ours: int, root: int, parent: Callable[[int], int], blocks_max: int
) -> "array[int] | None":
    """The chain from `root` that ends with `ours`; None if `parent`, 0 where it does not know,
    misses a link."""
    found = array("Q")
    while ours != root:
        if len(found) == blocks_max:
            return None
        found.append(ours)
        ours = parent(ours)
        if not ours:
            return None
    found.reverse()
    return found
