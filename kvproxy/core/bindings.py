"""Bindings of conversations to replicas as the whole fleet knows them, and what of it is owed.

Whoever places a turn commits the binding to the store, which takes it only from a proxy that knew
the last one (compare and set by version) and passes it on to all. So a proxy has to ask only about
conversations that it never heard of, or heard of before it was deaf for a while.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from kvproxy.core.shared_words import Bound


class Known(NamedTuple):
    """`version` is the store's, 0 before it took it; `era` counts the times of deafness."""

    version: int
    bound: Bound
    at: float
    era: int


class Bindings:
    """At most `max_sessions`, each forgotten `idle_s` after its last turn; `origin`: this proxy."""

    def __init__(self, origin: str, max_sessions: int, idle_s: float) -> None:
        self.origin = origin
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._era = 0

    def __len__(self) -> int:
        return len(self._known)

    def knows(self, key: bytes, now: float) -> bool:
        """Whether nobody needs to be asked where the conversation lives."""
        known = self._known.get(key)
        return known is not None and known.era == self._era and now - known.at <= self._idle_s

    def version(self, key: bytes) -> int:
        known = self._known.get(key)
        return known.version if known is not None else 0

    def deaf(self) -> None:
        """Messages may have been missed: what is known may be out of date."""
        self._era += 1

    def told(self, key: bytes, version: int, bound: Bound, now: float) -> bool:
        """The store has this. Whether it is news: it comes from another proxy and is not older
        than what is known here."""
        known = self._known.get(key)
        if known is not None and known.era == self._era and version < known.version:
            return False
        self._put(key, Known(version, bound, now, self._era))
        return bound.origin != self.origin

    def placed(self, key: bytes, bound: Bound, now: float) -> None:
        """This proxy placed a turn; the store does not know yet."""
        self._put(key, Known(self.version(key), bound, now, self._era))

    def taken(self, key: bytes, version: int) -> None:
        """The store took what this proxy placed."""
        known = self._known.get(key)
        if known is not None and version > known.version:
            self._known[key] = known._replace(version=version)

    def own(self) -> Iterator[tuple[bytes, Bound]]:
        """What this proxy placed last and would tell a store that has lost its memory."""
        for key, known in self._known.items():
            if known.bound.origin == self.origin:
                yield key, known.bound

    def _put(self, key: bytes, known: Known) -> None:
        self._known.pop(key, None)
        self._known[key] = known
        while self._known:
            oldest = next(iter(self._known.values()))
            if len(self._known) <= self._max_sessions and known.at - oldest.at <= self._idle_s:
                break
            self._known.popitem(last=False)
