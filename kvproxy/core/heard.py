"""Prefixes that other proxies sent to replicas, by the hash that covers them.

A prompt that arrives here and contains such a hash tells its blocks up to there, so one number
passed on stands for a whole prefix: that of a conversation, or the head that many share.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from kvproxy.core.replica import Replica
from kvproxy.core.shared_words import Mark

_REPLICAS_MAX = 64


class _Told(NamedTuple):
    at: float
    process: float


class Sent(NamedTuple):
    """`blocks` of a chain went to a replica's `process`, 0 if unknown, as was told at `at`."""

    blocks: int
    at: float
    process: float

    def is_held(self, replica: Replica) -> bool:
        """Whether `replica` may hold it still: its cache was not emptied since. A peer may have
        seen that one process followed another before this proxy did, or after it."""
        now_there = replica.process_began
        if self.process and now_there is not None:
            return self.process == now_there
        return self.at > replica.emptied_at


class Heard:
    """At most `max_marks` hashes, the longest unheard first out."""

    def __init__(self, max_marks: int) -> None:
        self._max_marks = max_marks
        self._replicas: OrderedDict[int, dict[str, _Told]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._replicas)

    def tell(self, replica: str, marks: Sequence[Mark], now: float, process: float = 0.0) -> None:
        told = _Told(now, process)
        for mark in marks:
            there = self._replicas.setdefault(mark.hash, {})
            self._replicas.move_to_end(mark.hash)
            if replica in there or len(there) < _REPLICAS_MAX:
                there[replica] = told
        while len(self._replicas) > self._max_marks:
            self._replicas.popitem(last=False)

    def take(self, hashes: Sequence[int]) -> dict[str, Sent]:
        """What of a chain each replica was sent and this proxy did not know of. What is returned
        is forgotten: from then on the model of the replica has it."""
        known = self._replicas
        if not known:
            return {}
        found: dict[str, Sent] = {}
        for index in [index for index, each in enumerate(hashes) if each in known]:
            for replica, told in known.pop(hashes[index]).items():
                found[replica] = Sent(index + 1, *told)
        return found
