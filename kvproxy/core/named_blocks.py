"""The blocks that a replica holds as another proxy told: by our names alone.

Nothing has to be translated or counted here, so a dictionary does, at a tenth of the time that the
maps of announced blocks take for the same memory.
"""

from array import array
from collections.abc import Iterable, Sequence

from kvproxy.core.event_source import Counts, Grown, root
from kvproxy.core.kv_digest import Added, Change, Emptied, Gone, Held, words
from kvproxy.core.shared_words import WordError
from kvproxy.core.tier_blocks import path_to
from kvproxy.core.types import Tier
from kvproxy.core.word_map import Budget

# Two words of Python and their place in the table.
_BLOCK_BYTES = 110
_PATH_BLOCKS_MAX = 2**20


class NamedBlocks:
    """One tier of one source. `stride`: blocks of the chain in one entry."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._parents: dict[int, int] = {}
        self.stride = 1

    def __len__(self) -> int:
        return len(self._parents)

    def parent(self, ours: int) -> int:
        """Our name of the block before, or 0 when `ours` is not held."""
        return self._parents.get(ours, 0)

    def add(self, names: Sequence[int], parents: Iterable[int]) -> int:
        """How many there was no room for."""
        if self._budget.used + len(names) * _BLOCK_BYTES > self._budget.limit:
            return len(names)
        before = len(self._parents)
        self._parents.update(zip(names, parents, strict=True))
        self._budget.used += (len(self._parents) - before) * _BLOCK_BYTES
        return 0

    def remove(self, names: Iterable[int]) -> None:
        before, pop = len(self._parents), self._parents.pop
        for name in names:
            pop(name, 0)
        self._budget.used -= (before - len(self._parents)) * _BLOCK_BYTES

    def one_copy(self, chain: Iterable[int]) -> None:
        """Copies are not counted here."""

    def prefix(self, chain: "array[int]", start: int = 0, guess: int = 2**63) -> int:
        """As TierBlocks.prefix(); bisection is cheap here, and needs no guess."""
        parents, stride = self._parents, self.stride
        first = start // stride
        cut = first or stride > 1
        entries = chain[first * stride + stride - 1 :: stride] if cut else chain
        low, high = 0, len(entries)
        # Most often all of them are, or hardly any.
        at = high - 1
        while low < high:
            if entries[at] in parents:
                low = at + 1
            else:
                high = at
            at = low + high >> 1
        return (first + low) * stride if low else start

    def path(self, ours: int, start: int) -> "array[int] | None":
        """The chain that ends with `ours`, None if a link is missing."""
        return path_to(ours, start, self.parent, _PATH_BLOCKS_MAX)

    def release(self) -> None:
        self._budget.used -= len(self._parents) * _BLOCK_BYTES
        self._parents = {}


class NamedSource:
    """In place of an EventSource where another proxy listens."""

    def __init__(self, budget: Budget, block_size: int) -> None:
        self._budget = budget
        self.block_size = block_size
        self.tiers: dict[Tier, NamedBlocks] = {}
        self.counts = Counts()

    def tell(self, change: Change) -> Grown | None:
        """Returns what a request made. Raises WordError."""
        if isinstance(change, Added):
            names = words(change.names)
            self._add(change.tier, change.stride, names, [change.parent, *names[:-1]])
            if change.session and change.tier is Tier.HBM:
                return Grown(change.session, change.parent, array("Q", names))
        elif isinstance(change, Held):
            names, parents = words(change.names), words(change.parents)
            if len(names) != len(parents):
                raise WordError("names and parents differ in number")
            self._add(change.tier, change.stride, names, parents)
        elif isinstance(change, Gone) and change.tier in self.tiers:
            self.tiers[change.tier].remove(words(change.names))
        elif isinstance(change, Emptied) and change.tier in self.tiers:
            self.tiers.pop(change.tier).release()
        return None

    def path(self, ours: int) -> "array[int] | None":
        """The whole chain that ends with the HBM block `ours`, or None."""
        blocks = self.tiers.get(Tier.HBM)
        return None if blocks is None else blocks.path(ours, root(self.block_size))

    def release(self) -> None:
        for blocks in self.tiers.values():
            blocks.release()
        self.tiers.clear()

    def _add(self, tier: Tier, stride: int, names: list[int], parents: list[int]) -> None:
        blocks = self.tiers.get(tier)
        if blocks is None:
            blocks = self.tiers[tier] = NamedBlocks(self._budget)
        blocks.stride = stride
        refused = blocks.add(names, parents)
        self.counts.refused += refused
        self.counts.stored += len(names) - refused
