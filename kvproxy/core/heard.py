"""Prefixes that other proxies sent to replicas, by the hash that covers them.

A prompt that arrives here and contains such a hash tells its blocks up to there, so one number
passed on stands for a whole prefix: that of a conversation, or the head that many share.
"""

from collections import OrderedDict
from collections.abc import Sequence

from kvproxy.core.shared_words import Mark

_REPLICAS_MAX = 64


class Heard:
    """At most `max_marks` hashes, the longest unheard first out."""

    def __init__(self, max_marks: int) -> None:
        self._max_marks = max_marks
        self._replicas: OrderedDict[int, set[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._replicas)

    def tell(self, replica: str, marks: Sequence[Mark]) -> None:
        for mark in marks:
            there = self._replicas.setdefault(mark.hash, set())
            self._replicas.move_to_end(mark.hash)
            if len(there) < _REPLICAS_MAX:
                there.add(replica)
        while len(self._replicas) > self._max_marks:
            self._replicas.popitem(last=False)

    def take(self, hashes: Sequence[int]) -> dict[str, int]:
        """Blocks of a chain that each replica was sent and this proxy did not know of. What is
        returned is forgotten: from then on the model of the replica has it."""
        known = self._replicas
        if not known:
            return {}
        found: dict[str, int] = {}
        for index in [index for index, each in enumerate(hashes) if each in known]:
            for replica in known.pop(hashes[index]):
                found[replica] = index + 1
        return found

    def forget_replica(self, replica: str) -> None:
        """Its cache is empty."""
        for mark in [mark for mark, there in self._replicas.items() if replica in there]:
            self._replicas[mark].discard(replica)
            if not self._replicas[mark]:
                del self._replicas[mark]
