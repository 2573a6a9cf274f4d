"""How much KV conversations have lately used: what the caches would have to hold to miss nothing.

A conversation counts with its latest prompt, on the replica of its latest turn, in every window
that reaches back to that turn. Text that conversations share counts once for each.

Windows are kept as the bands between them, so that a turn moves one entry and not one a window.
Bands are summed up when somebody asks, but for what placing asks for all the time: how much was
used on each replica within one of the windows.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from math import inf

from msgspec import Struct

WINDOWS_S = (60.0, 300.0, 900.0, 3600.0)
# Where conversations live whose replica is gone.
_NOWHERE = ""


class Use(Struct, gc=False):
    """A conversation's latest turn; `band` is where it lies, by its age."""

    replica: str
    tokens: int
    at: float
    band: int = 0


class WorkingSet:
    """One entry a conversation, at most `sessions_max` of them; the oldest go first. `living_s`:
    the window by replica, the longest if not given."""

    def __init__(
        self,
        sessions_max: int,
        windows_s: Sequence[float] = WINDOWS_S,
        living_s: float | None = None,
    ) -> None:
        assert sessions_max > 0
        self.windows_s = tuple(windows_s)
        self._sessions_max = sessions_max
        self._bands = [_Band(end_s) for end_s in windows_s]
        self._uses: dict[Hashable, Use] = {}
        # The last band of those that live, and what is used there.
        self._living = self.windows_s.index(self.windows_s[-1] if living_s is None else living_s)
        self._by_replica: dict[str, int] = {}
        # Nothing is too old for its band before then.
        self._due = inf

    def touch(self, key: Hashable, replica: str, tokens: int, now: float) -> None:
        """A turn of `tokens` prompt tokens went to `replica`."""
        if now > self._due:
            self._expire(now)
        newest, use = self._bands[0], self._uses.get(key)
        if use is not None and not use.band and use.replica == replica:
            # As most turns do, it goes on where it was a moment ago.
            newest.uses.move_to_end(key)
            grown = tokens - use.tokens
            use.tokens, use.at = tokens, now
        else:
            if use is not None:
                self._remove(key, use)
            self._uses[key] = newest.uses[key] = Use(replica, tokens, now)
            grown = tokens
            if len(self._uses) > self._sessions_max:
                self._drop_oldest()
        if grown:
            newest.tokens += grown
            self._count(replica, grown)
        self._due = min(self._due, now + newest.end_s)

    def forget_replica(self, replica: str) -> None:
        """It is gone with what it held, and another one may come under its name. Its conversations
        will want room all the same, wherever they go on."""
        for use in self._uses.values():
            if use.replica == replica:
                use.replica = _NOWHERE
        moved = self._by_replica.pop(replica, 0)
        if moved:
            self._count(_NOWHERE, moved)

    def tokens(self, window_s: float, now: float) -> int:
        """Used within `window_s`, which must be one of the windows, on all replicas."""
        return sum([band.tokens for band in self._within(window_s, now)])

    def by_replica(self, now: float) -> Mapping[str, int]:
        """Tokens of those that live; to look at before anything changes."""
        if now > self._due:
            self._expire(now)
        return self._by_replica

    def sessions(self, window_s: float, now: float) -> int:
        return sum([len(band.uses) for band in self._within(window_s, now)])

    def _within(self, window_s: float, now: float) -> Sequence["_Band"]:
        if now > self._due:
            self._expire(now)
        return self._bands[: self.windows_s.index(window_s) + 1]

    def _expire(self, now: float) -> None:
        """Move on what has grown too old for its band, newest bands first."""
        self._due = inf
        for index, band in enumerate(self._bands):
            older = self._bands[index + 1] if index + 1 < len(self._bands) else None
            while (oldest := band.oldest()) is not None:
                key, use = oldest
                if now - use.at <= band.end_s:
                    self._due = min(self._due, use.at + band.end_s)
                    break
                del band.uses[key]
                band.tokens -= use.tokens
                if index == self._living:
                    self._count(use.replica, -use.tokens)
                if older is None:
                    del self._uses[key]
                else:
                    use.band = index + 1
                    older.uses[key] = use
                    older.tokens += use.tokens

    def _drop_oldest(self) -> None:
        for band in reversed(self._bands):
            oldest = band.oldest()
            if oldest is not None:
                self._remove(*oldest)
                return

    def _remove(self, key: Hashable, use: Use) -> None:
        band = self._bands[use.band]
        del band.uses[key], self._uses[key]
        band.tokens -= use.tokens
        if use.band <= self._living:
            self._count(use.replica, -use.tokens)

    def _count(self, replica: str, tokens: int) -> None:
        """So many more of those that live."""
        left = self._by_replica[replica] = self._by_replica.get(replica, 0) + tokens
        if not left:
            # Replicas come and go, and leave no names behind.
            del self._by_replica[replica]


class _Band:
    """Conversations whose age lies between the end of the band before and `end_s`, oldest first,
    and their tokens."""

    def __init__(self, end_s: float) -> None:
        self.end_s = end_s
        self.uses: OrderedDict[Hashable, Use] = OrderedDict()
        self.tokens = 0

    def oldest(self) -> tuple[Hashable, Use] | None:
        return next(iter(self.uses.items()), None)
