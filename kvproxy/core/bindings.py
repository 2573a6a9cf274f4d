"""Which conversations are known to live where, for proxies that share them through a store.

A conversation's KV is where its latest turn ran. Who placed a turn knowing the store's word on its
conversation follows that word. Of turns that were placed unknown to each other, as while the store
was away, the later one counts: every proxy says how long ago it placed its turn, and the store
subtracts that from its own clock, so no proxy's clock is compared with another's.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from kvproxy.core.shared_words import Bound, Told


class Owed(NamedTuple):
    """A turn that the store has to be told of: placed at `at` by this proxy's clock, when the
    store's word of `version` by `writer` was known here; 0 and "" where there was none."""

    bound: Bound
    at: float
    version: int
    writer: str


class Known(NamedTuple):
    """`version` and `writer` are of the store's latest word here; `era` counts the times of
    deafness. What is `undecided` was placed here, and the store has not said what it makes of it;
    until then what others are told of is a `rival`. `at`: when this was learned; `placed_at`: when
    this proxy last placed a turn."""

    version: int
    writer: str
    bound: Bound
    at: float
    era: int
    placed_at: float = 0.0
    undecided: bool = False
    rival: Told | None = None


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

    def __contains__(self, key: bytes) -> bool:
        return key in self._known

    def knows(self, key: bytes, now: float) -> bool:
        """Whether nobody needs to be asked where the conversation lives."""
        known = self._known.get(key)
        return known is not None and known.era == self._era and now - known.at <= self._idle_s

    def deaf(self) -> None:
        """Messages may have been missed: what is known may be out of date."""
        self._era += 1

    def told(self, key: bytes, version: int, bound: Bound, now: float) -> bool:
        """The store has this. Whether it is news where the conversation lives."""
        known = self._known.get(key)
        if known is None:
            self._put(key, Known(version, bound.origin, bound, now, self._era))
            return True
        if known.era == self._era and version < known.version:
            return False
        if known.undecided:
            if bound.origin == self.origin:
                # An earlier turn of this proxy's own: what is owed follows it.
                self._known[key] = known._replace(version=version, writer=self.origin)
            else:
                rival = self._rival(known)
                if rival is None or rival.version < version:
                    rival = Told(key, version, bound)
                self._known[key] = known._replace(rival=rival, era=self._era)
            return False
        self._put(key, Known(version, bound.origin, bound, now, self._era, known.placed_at))
        return bound != known.bound

    def placed(self, key: bytes, bound: Bound, now: float) -> Owed:
        """This proxy placed a turn; the store has to be told."""
        known = self._known.get(key)
        version, writer = (0, "") if known is None else (known.version, known.writer)
        self._put(key, Known(version, writer, bound, now, self._era, now, True, self._rival(known)))
        return Owed(bound, now, version, writer)

    def decided(self, key: bytes, sent: Bound, version: int, kept: Bound | None) -> list[Told]:
        """The store's answer to `sent`, taken as `version` or refused for what it `kept`. Returns
        what is to be told() now, in this order."""
        heard = [Told(key, version, sent if kept is None else kept)]
        known = self._known.get(key)
        if known is not None and known.undecided and known.bound == sent:
            self._known[key] = known._replace(undecided=False, rival=None)
            rival = self._rival(known)
            if rival is not None and rival.version > version:
                heard.append(rival)
        return heard

    def retold(self) -> Iterator[tuple[bytes, Owed]]:
        """What this proxy placed last, for a store that may have lost its memory: each as it is
        when it is taken, since turns may be placed meanwhile."""
        for key in list(self._known):
            known = self._known.get(key)
            if known is None or known.bound.origin != self.origin:
                continue
            if known.version or known.undecided:
                yield key, Owed(known.bound, known.placed_at, known.version, known.writer)

    def _rival(self, known: Known | None) -> Told | None:
        """What was heard before a time of deafness may be the word of a store that has lost it."""
        return known.rival if known is not None and known.era == self._era else None

    def _put(self, key: bytes, known: Known) -> None:
        self._known.pop(key, None)
        self._known[key] = known
        while self._known:
            oldest = next(iter(self._known.values()))
            if len(self._known) <= self._max_sessions and known.at - oldest.at <= self._idle_s:
                break
            self._known.popitem(last=False)
