"""Telling other proxies of one source that this proxy listens to: all that is held once, and from
then on what changes."""

from collections import deque

from kvproxy.core.event_source import EventSource
from kvproxy.core.holdings import Holdings
from kvproxy.core.kv_digest import Begin, Change, Changes, Digest, Held, Whole, packed
from kvproxy.core.kv_sources import SourceKey
from kvproxy.core.types import Tier
from kvproxy.core.word_map import SHARDS

# Who asks for everything again so soon after the last time gets what is under way.
_AGAIN_S = 5.0
# Where nothing changes, an empty digest tells who missed the last one.
_IDLE_S = 2.0


class Outlet:
    """`origin`: this proxy. What is held is read part by part, each as it is when it is told, so
    that changes before and after it come in their order."""

    def __init__(self, origin: str, key: SourceKey, holdings: Holdings) -> None:
        self._origin, self._key, self._holdings = origin, key, holdings
        self._changes = holdings.index.changes[key] = Changes()
        self._changes.begin_anew()
        self._left: deque[tuple[Tier, int]] = deque()
        self._begun_at = self._told_at = 0.0
        self._is_whole = False
        self._number = 0

    def want(self, now: float) -> None:
        """Somebody missed something."""
        if now - self._begun_at >= _AGAIN_S:
            self._changes.begin_anew()

    def take(self, room_blocks: int, now: float) -> Digest | None:
        """What is to be told now, with up to `room_blocks` and a part more of what is held; None
        where there is nothing to say."""
        source = self._holdings.index.source(*self._key)
        held = source if isinstance(source, EventSource) else None
        told: list[Change] = []
        if self._changes.overflown:
            told.append(Begin(not self._holdings.standing.is_partial(*self._key)))
            self._left = deque((t, n) for t in (held.tiers if held else ()) for n in range(SHARDS))
            self._begun_at, self._is_whole = now, False
            self._changes.overflown = False
        else:
            told, self._changes.told = self._changes.told, []
        while self._left and held is not None and room_blocks > 0:
            tier, number = self._left.popleft()
            blocks = held.tiers.get(tier)
            names, parents = blocks.shard(number) if blocks is not None else ([], [])
            if blocks is not None and names:
                told.append(Held(tier, blocks.stride, packed(names), packed(parents)))
                room_blocks -= len(names)
        if not self._is_whole and (not self._left or held is None):
            told.append(Whole())
            self._is_whole = True
        if not told and now - self._told_at < _IDLE_S:
            return None
        self._number += 1
        self._told_at = now
        size = held.block_size if held is not None else 0
        return Digest(self._origin, *self._key, self._number, size, told)

    def close(self) -> None:
        self._holdings.index.changes.pop(self._key, None)
