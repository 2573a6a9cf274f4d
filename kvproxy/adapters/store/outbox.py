"""What the store has still to be told, each thing once and in its latest form."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Outbox(Generic[K, V]):
    """At most `most` things; what exceeds it is `dropped`, the oldest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[K, V] = OrderedDict()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._things)

    def put(self, key: K, thing: V) -> None:
        self._things.pop(key, None)
        self._things[key] = thing
        while len(self._things) > self._most:
            self._things.popitem(last=False)
            self.dropped += 1

    def take(self, count: int) -> list[tuple[K, V]]:
        """Up to `count` of the oldest leave the box."""
        return [self._things.popitem(last=False) for _ in range(min(count, len(self._things)))]

    def give_back(self, things: list[tuple[K, V]]) -> None:
        """They were not delivered; what is newer stays."""
        for key, thing in reversed(things):
            if key not in self._things and len(self._things) < self._most:
                self._things[key] = thing
                self._things.move_to_end(key, last=False)
            else:
                self.dropped += key not in self._things
