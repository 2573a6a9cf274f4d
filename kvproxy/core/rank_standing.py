"""Whether what a replica's ranks announce can be relied on: not while it is old, nor, against what
history knows more of, where some was missed."""

from kvproxy.core.kv_sources import SourceKey


class RankStanding:
    def __init__(self) -> None:
        self._partial: set[SourceKey] = set()
        self._behind: set[SourceKey] = set()

    def reset(self, replica: str, rank: int, *, complete: bool) -> None:
        """Nothing is known of a rank; `complete` if all that it holds will be told again."""
        (self._partial.discard if complete else self._partial.add)((replica, rank))

    def behind(self, replica: str, rank: int, *, so: bool) -> None:
        """Whether what a rank announces now happened some time ago: it has no say until it is
        caught up with."""
        (self._behind.add if so else self._behind.discard)((replica, rank))

    def forget(self, replica: str) -> None:
        self._partial = {(name, rank) for name, rank in self._partial if name != replica}
        self._behind = {(name, rank) for name, rank in self._behind if name != replica}

    def is_partial(self, replica: str, rank: int) -> bool:
        return (replica, rank) in self._partial

    def any_partial(self, replica: str) -> bool:
        return bool(self._partial) and any(name == replica for name, _ in self._partial)

    def any_behind(self, replica: str) -> bool:
        return bool(self._behind) and any(name == replica for name, _ in self._behind)
