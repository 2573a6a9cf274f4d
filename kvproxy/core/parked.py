"""Announcements that cannot be placed yet: their parent, or the block itself, is not known.

They wait in bounded number, the oldest leaving first; whoever comes too late is dropped, and
counted by the caller. Removals that arrive meanwhile are remembered with them.
"""

from collections import Counter, OrderedDict

from kvproxy.core.kv_events import Stored
from kvproxy.core.types import Tier

_WAITING_BLOCKS_MAX = 16_384
_EXPECTED_MAX = 65_536


class Parked:
    """Falsy when nothing waits, which is nearly always."""

    def __init__(self) -> None:
        self._behind: OrderedDict[int, list[Stored]] = OrderedDict()
        self._blocks = 0
        self._expected: OrderedDict[tuple[Tier, int], None] = OrderedDict()
        self._by_engine: Counter[int] = Counter()
        self._removed: Counter[tuple[Tier, int]] = Counter()

    def __bool__(self) -> bool:
        return bool(self._behind or self._expected)

    def wait(self, event: Stored) -> int:
        """Until the parent is known; returns how many waiting blocks were given up for it."""
        self._behind.setdefault(event.parent, []).append(event)
        self._blocks += len(event.hashes)
        lost = 0
        while self._blocks > _WAITING_BLOCKS_MAX and self._behind:
            _, events = self._behind.popitem(last=False)
            gone = sum(len(old.hashes) for old in events)
            self._blocks -= gone
            lost += gone
        self.tidy()
        return lost

    def behind(self, engine: int) -> list[Stored]:
        """Take what waited for this parent."""
        events = self._behind.pop(engine, [])
        self._blocks -= sum(len(event.hashes) for event in events)
        return events

    def expect(self, tier: Tier, engine: int) -> int:
        """A placeholder of a block not told yet; returns how many others were given up for it."""
        if (tier, engine) not in self._expected:
            self._expected[tier, engine] = None
            self._by_engine[engine] += 1
        if len(self._expected) <= _EXPECTED_MAX:
            return 0
        (_, oldest), _ = self._expected.popitem(last=False)
        self._unlist(oldest)
        return 1

    def expected(self, engine: int) -> list[Tier]:
        """Take the tiers that hold a placeholder of this block."""
        if engine not in self._by_engine:
            return []
        tiers = [tier for tier in Tier if (tier, engine) in self._expected]
        for tier in tiers:
            del self._expected[tier, engine]
        del self._by_engine[engine]
        return tiers

    def removed(self, tier: Tier, engine: int) -> None:
        """A removal that nobody knew the block of: it may be of one that waits."""
        if (tier, engine) in self._expected:
            del self._expected[tier, engine]
            self._unlist(engine)
        elif self._behind and len(self._removed) < _WAITING_BLOCKS_MAX:
            self._removed[tier, engine] += 1

    @property
    def any_removed(self) -> bool:
        return bool(self._removed)

    def was_removed(self, tier: Tier, engine: int) -> bool:
        """Whether one removal of this block came before its announcement could be placed."""
        count = self._removed.pop((tier, engine), 0)
        if count > 1:
            self._removed[tier, engine] = count - 1
        return count > 0

    def drop(self, tier: Tier) -> None:
        """The tier was emptied."""
        for parent, events in list(self._behind.items()):
            kept = [event for event in events if event.tier is not tier]
            self._blocks -= sum(len(event.hashes) for event in events if event.tier is tier)
            if kept:
                self._behind[parent] = kept
            else:
                del self._behind[parent]
        for held, engine in [key for key in self._expected if key[0] is tier]:
            del self._expected[held, engine]
            self._unlist(engine)
        self.tidy()

    def _unlist(self, engine: int) -> None:
        self._by_engine[engine] -= 1
        if not self._by_engine[engine]:
            del self._by_engine[engine]

    def tidy(self) -> None:
        """Removals matter only while something waits."""
        if not self._behind:
            self._removed.clear()
