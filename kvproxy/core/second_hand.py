"""What other proxies tell of the sources that they listen to, put where announcements go.

Of a source that was not told whole, or of which something was missed, announcements have no say:
until it is told anew, what was sent to the replica decides.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from kvproxy.core.holdings import Holdings
from kvproxy.core.kv_digest import Begin, Digest, Whole
from kvproxy.core.kv_sources import SourceKey
from kvproxy.core.named_blocks import NamedSource
from kvproxy.core.shared_words import WordError


@dataclass(slots=True)
class _Told:
    origin: str
    number: int
    is_whole: bool = False


class SecondHand:
    """`gaps`: times that something was missed; `digests`: those that were taken."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._told: dict[SourceKey, _Told] = {}
        self.digests = 0
        self.gaps = 0

    def hear(self, digest: Digest) -> bool:
        """Whether it could be taken. Raises WordError; what it was about is lost then."""
        key = (digest.replica, digest.rank)
        told = self._told.get(key)
        begins = bool(digest.changes) and isinstance(digest.changes[0], Begin)
        follows = (
            told is not None
            and (told.origin, told.number + 1) == (digest.origin, digest.number)
            # It is not where the replica was taken away meanwhile.
            and isinstance(self._holdings.index.source(*key), NamedSource)
        )
        if not begins and not follows:
            self.lose([key])
            return False
        if told is None or begins:
            told = self._told[key] = _Told(digest.origin, digest.number)
        told.number = digest.number
        self.digests += 1
        try:
            self._take(digest, told)
        except WordError:
            self.lose([key])
            raise
        return True

    def _take(self, digest: Digest, told: _Told) -> None:
        holdings, key = self._holdings, (digest.replica, digest.rank)
        for change in digest.changes:
            if isinstance(change, Begin):
                holdings.reset(*key, complete=change.complete)
                holdings.standing.behind(*key, so=True)
                holdings.index.named(*key, digest.block_size)
                told.is_whole = False
            elif isinstance(change, Whole):
                holdings.standing.behind(*key, so=False)
                told.is_whole = True
            else:
                source = holdings.index.source(*key)
                assert isinstance(source, NamedSource)
                source.block_size = digest.block_size
                holdings.grew(*key, source.tell(change))

    def unknown(self, keys: Iterable[SourceKey]) -> list[SourceKey]:
        """Those of which nothing was told, or not all since something was missed."""
        return [key for key in keys if key not in self._told]

    def lose(self, keys: Iterable[SourceKey]) -> None:
        """Something about them was missed."""
        for key in keys:
            if self._told.pop(key, None) is not None:
                self.gaps += 1
                self._holdings.reset(*key, complete=False)
                self._holdings.standing.behind(*key, so=True)

    def lose_all(self) -> None:
        self.lose(list(self._told))

    def forget(self, key: SourceKey) -> None:
        """This proxy listens itself from now on, or nobody does."""
        self._told.pop(key, None)
        self._holdings.reset(*key, complete=True)
        self._holdings.standing.behind(*key, so=False)
