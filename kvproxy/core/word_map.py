"""A map from 64-bit words to 64-bit words at 21 to 43 bytes an entry, where a dict takes over 100.

Open addressing in arrays of words, linear probing, deletion by shifting back, so there are no
tombstones to clean up. It is cut into shards by the low bits of the key: only one shard is copied
when it grows, so no single call takes long however large the map is.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence

SHARDS = 256
_SLOTS_MIN = 4
_WORD_BYTES = 8
_ARRAY_BYTES = 80


class Budget:
    """Bytes taken by all maps that share it. `limit` is kept by whoever adds entries."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class WordMap:
    """Keys and values in [1, 2**64): 0 means absent. Keys should be hashes already."""

    __slots__ = ("_budget", "_counts", "_size", "_tables")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._tables = [array("Q", bytes(2 * _SLOTS_MIN * _WORD_BYTES)) for _ in range(SHARDS)]
        self._counts = array("I", bytes(4 * SHARDS))
        self._size = 0
        budget.used += self.bytes

    def __len__(self) -> int:
        return self._size

    @property
    def bytes(self) -> int:
        return sum(len(table) * _WORD_BYTES + _ARRAY_BYTES for table in self._tables)

    def get(self, key: int) -> int:
        """The value, or 0."""
        table = self._tables[key & 255]
        mask = len(table) - 2
        at = key >> 7 & mask
        while (found := table[at]) != key:
            if not found:
                return 0
            at = at + 2 & mask
        return table[at + 1]

    def add(self, keys: Sequence[int], values: Sequence[int]) -> list[int]:
        """Put those that are not there yet; the positions of those that are."""
        tables, counts = self._tables, self._counts
        there = []
        for position, key in enumerate(keys):
            shard = key & 255
            table = tables[shard]
            size = len(table)
            mask = size - 2
            at = key >> 7 & mask
            while found := table[at]:
                if found == key:
                    there.append(position)
                    break
                at = at + 2 & mask
            else:
                table[at] = key
                table[at + 1] = values[position]
                count = counts[shard] = counts[shard] + 1
                # At most three quarters full: a slot is two words.
                if count * 8 > size * 3:
                    self._rebuild(shard, size)
        self._size += len(keys) - len(there)
        return there

    def pop(self, keys: Iterable[int]) -> list[int]:
        """Remove; the values they had, 0 for those that were not there."""
        tables, counts = self._tables, self._counts
        values = []
        removed = 0
        for key in keys:
            shard = key & 255
            table = tables[shard]
            size = len(table)
            mask = size - 2
            at = key >> 7 & mask
            while (found := table[at]) != key:
                if not found:
                    values.append(0)
                    break
                at = at + 2 & mask
            else:
                values.append(table[at + 1])
                _close_gap(table, at)
                removed += 1
                count = counts[shard] = counts[shard] - 1
                if size > 8 * _SLOTS_MIN and count * 16 < size:
                    self._rebuild(shard, size // 4)
        self._size -= removed
        return values

    def prefix(self, words: Sequence[int], guess: int = 2**63) -> int:
        """How many leading words are keys, by bisection: after one that is none follow none.
        A good `guess` saves most of it."""
        low, high, get = 0, len(words), self.get
        if guess < high:
            if not get(words[guess]):
                if not guess or get(words[guess - 1]):
                    return guess
                high = guess - 1
            elif get(words[-1]):
                return high
            else:
                low, high = guess + 1, high - 1
        elif high:
            if get(words[-1]):
                return high
            high -= 1
        tables = self._tables
        while low < high:
            middle = low + high >> 1
            key = words[middle]
            table = tables[key & 255]
            mask = len(table) - 2
            at = key >> 7 & mask
            # get(), spelt out: this runs a dozen times for every replica.
            while (found := table[at]) != key and found:
                at = at + 2 & mask
            if found:
                low = middle + 1
            else:
                high = middle
        return low

    def items(self) -> Iterator[tuple[int, int]]:
        for table in self._tables:
            for at in range(0, len(table), 2):
                if table[at]:
                    yield table[at], table[at + 1]

    def shard(self, number: int) -> tuple[list[int], list[int]]:
        """Keys and values of one of SHARDS parts."""
        table = self._tables[number]
        keys = [at for at in range(0, len(table), 2) if table[at]]
        return [table[at] for at in keys], [table[at + 1] for at in keys]

    def release(self) -> None:
        """Give the bytes back to the budget; the map is not used afterwards."""
        self._budget.used -= self.bytes
        self._tables = []

    def _rebuild(self, shard: int, slots: int) -> None:
        old = self._tables[shard]
        size = 2 * slots
        mask = size - 2
        table = array("Q", bytes(size * _WORD_BYTES))
        for source in range(0, len(old), 2):
            key = old[source]
            if key:
                at = key >> 7 & mask
                while table[at]:
                    at = at + 2 & mask
                table[at] = key
                table[at + 1] = old[source + 1]
        self._tables[shard] = table
        self._budget.used += (size - len(old)) * _WORD_BYTES


def _close_gap(table: "array[int]", gap: int) -> None:
    """Empty a slot, moving back into it what lies behind only because it was taken."""
    mask = len(table) - 2
    at = gap
    while True:
        at = at + 2 & mask
        moved = table[at]
        if not moved:
            break
        home = moved >> 7 & mask
        # It may move unless its home lies behind the gap.
        if at - home & mask >= at - gap & mask:
            table[gap] = moved
            table[gap + 1] = table[at + 1]
            gap = at
    table[gap] = table[gap + 1] = 0
