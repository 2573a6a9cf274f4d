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
        size = len(table)
        at = key >> 7 & size - 2
        while (found := table[at]) != key:
            if not found:
                return 0
            at += 2
            if at == size:
                at = 0
        return table[at + 1]

    def add(self, keys: Sequence[int], values: Sequence[int]) -> list[int]:
        """Put those that are not there yet; the positions of those that are."""
        tables, counts = self._tables, self._counts
        there = []
        for position, key in enumerate(keys):
            shard = key & 255
            table = tables[shard]
            size = len(table)
            at = key >> 7 & size - 2
            while found := table[at]:
                if found == key:
                    there.append(position)
                    break
                at += 2
                if at == size:
                    at = 0
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
            at = key >> 7 & size - 2
            while (found := table[at]) != key:
                if not found:
                    values.append(0)
                    break
                at += 2
                if at == size:
                    at = 0
            else:
                values.append(table[at + 1])
                _close_gap(table, at)
                removed += 1
                count = counts[shard] = counts[shard] - 1
                if size > 8 * _SLOTS_MIN and count * 16 < size:
                    self._rebuild(shard, size // 4)
        self._size -= removed
        return values

    def prefix(self, words: Sequence[int]) -> int:
        """How many leading words are keys, by bisection: after one that is none follow none."""
        tables = self._tables
        low, high = 0, len(words)
        # Most often all of them are, or hardly any.
        at_word = high - 1
        while low < high:
            key = words[at_word]
            table = tables[key & 255]
            at = key >> 7 & len(table) - 2
            while (found := table[at]) != key and found:
                at += 2
                if at == len(table):
                    at = 0
            if found:
                low = at_word + 1
            else:
                high = at_word
            at_word = low + high >> 1
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
        table = array("Q", bytes(size * _WORD_BYTES))
        for source in range(0, len(old), 2):
            key = old[source]
            if key:
                at = key >> 7 & size - 2
                while table[at]:
                    at += 2
                    if at == size:
                        at = 0
                table[at] = key
                table[at + 1] = old[source + 1]
        self._tables[shard] = table
        self._budget.used += (size - len(old)) * _WORD_BYTES


def _close_gap(table: "array[int]", gap: int) -> None:
    """Empty a slot, moving back into it what lies behind only because it was taken."""
    size = len(table)
    at = gap
    while True:
        at += 2
        if at == size:
            at = 0
        moved = table[at]
        if not moved:
            break
        home = moved >> 7 & size - 2
        # It may move unless its home lies behind the gap.
        if (at - home) % size >= (at - gap) % size:
            table[gap] = moved
            table[gap + 1] = table[at + 1]
            gap = at
    table[gap] = table[gap + 1] = 0
