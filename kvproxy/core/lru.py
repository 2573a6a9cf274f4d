"""A mapping that forgets its least recently used entries once they take too many bytes."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteLru(Generic[K, V]):
    """At most `max_bytes`, by the sizes given with the entries."""

    def __init__(self, max_bytes: int) -> None:
        assert max_bytes >= 0
        self._max_bytes = max_bytes
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.size_bytes = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The entry, which counts as used now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def items(self) -> Iterator[tuple[K, V]]:
        """The longest unused first."""
        for key, (value, _) in self._entries.items():
            yield key, value

    def put(self, key: K, value: V, size_bytes: int) -> None:
        """Keep `value`; one that is larger than everything allowed is not kept."""
        entries = self._entries
        before = entries.pop(key, None)
        if before is not None:
            self.size_bytes -= before[1]
        if size_bytes > self._max_bytes:
            return
        entries[key] = (value, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._max_bytes:
            _, (_, freed) = entries.popitem(last=False)
            self.size_bytes -= freed
            self.evicted += 1

    def clear(self) -> None:
        self._entries.clear()
        self.size_bytes = 0

    def pop(self, key: K) -> V | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.size_bytes -= entry[1]
        return entry[0]
