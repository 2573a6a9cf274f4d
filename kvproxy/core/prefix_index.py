"""Which replica holds how much of a chain of token blocks, in which tier, by what engines announce.

Bounded in bytes: when they are used up further announcements are refused, never the removals that
make room, so what is in the index stays true.
"""

from array import array
from collections.abc import Iterable, Iterator

from msgspec import Struct

from kvproxy.core.event_source import EventSource, Grown
from kvproxy.core.kv_digest import Changes
from kvproxy.core.kv_events import Event
from kvproxy.core.kv_sources import SourceKey
from kvproxy.core.named_blocks import NamedSource
from kvproxy.core.types import Tier
from kvproxy.core.word_map import Budget


class Held(Struct, frozen=True, gc=False):
    """Blocks of a chain held from its start: the first `hbm` in HBM, the next `dram`, the next
    `disk` (or remote); `rank` is the data-parallel rank that holds them."""

    rank: int
    hbm: int
    dram: int
    disk: int

    @property
    def blocks(self) -> int:
        return self.hbm + self.dram + self.disk

    def cut(self, blocks: int) -> "Held":
        """The first so many, which are held."""
        hbm = min(self.hbm, blocks)
        dram = min(self.dram, blocks - hbm)
        return Held(self.rank, hbm, dram, blocks - hbm - dram)


_NOTHING = Held(0, 0, 0, 0)
_HBM = Tier.HBM


class PrefixIndex:
    """Sources by replica and data-parallel rank. Only apply, drop and one_copy change it."""

    def __init__(self, max_bytes: int) -> None:
        self.budget = Budget(max_bytes)
        self.changes: dict[SourceKey, Changes] = {}
        self._sources: dict[str, dict[int, EventSource | NamedSource]] = {}

    def __iter__(self) -> Iterator[tuple[str, int, EventSource | NamedSource]]:
        for replica, ranks in self._sources.items():
            for rank, source in ranks.items():
                yield replica, rank, source

    @property
    def pairs(self) -> int:
        """Entries: one for each block, tier and replica that holds it."""
        return sum(len(t) for _, _, source in self for t in source.tiers.values())

    def apply(self, replica: str, rank: int, event: Event) -> Grown | None:
        """Raises KvEventError for an event that cannot be."""
        ranks = self._sources.setdefault(replica, {})
        source = ranks.get(rank)
        if source is None:
            source = EventSource(self.budget, self.changes.get((replica, rank)))
            ranks[rank] = source
        assert isinstance(source, EventSource)
        return source.apply(event)

    def named(self, replica: str, rank: int, block_size: int) -> NamedSource:
        """In place of what a rank announced: what another proxy will tell of it."""
        self.drop(replica, rank)
        source = NamedSource(self.budget, block_size)
        self._sources.setdefault(replica, {})[rank] = source
        return source

    def drop(self, replica: str, rank: int | None = None) -> None:
        """Forget what a rank, or a whole replica, announced."""
        ranks = self._sources.get(replica, {})
        for number in [rank] if rank is not None else list(ranks):
            source = ranks.pop(number, None)
            if source is not None:
                source.release()
            if (replica, number) in self.changes:
                self.changes[replica, number].begin_anew()
        if not ranks:
            self._sources.pop(replica, None)

    def look_up(
        self, replica: str, chain: "array[int]", block_size: int, guess: int = 2**63
    ) -> Held:
        """How long a prefix of `chain` the replica's best rank holds. Changes nothing.

        `guess`: where it may end in HBM, as on another replica. It costs less where that is right.
        """
        ranks = self._sources.get(replica)
        if ranks is None:
            return _NOTHING
        best, longest = _NOTHING, 0
        for rank, source in ranks.items():
            if source.block_size == block_size:
                held = _held(rank, source, chain, guess)
                blocks = held.hbm + held.dram + held.disk
                if blocks > longest or (blocks == longest and held.hbm > best.hbm):
                    best, longest = held, blocks
        return best

    def source(self, replica: str, rank: int) -> EventSource | NamedSource | None:
        return self._sources.get(replica, {}).get(rank)

    def block_size(self, replica: str) -> int:
        """Tokens of the blocks it announces, 0 until it has."""
        sources = self._sources.get(replica, {}).values()
        return max((source.block_size for source in sources), default=0)

    def ranks(self, replica: str) -> int:
        """Data-parallel ranks that announced anything."""
        return len(self._sources.get(replica, {}))

    def one_copy(self, replica: str, chain: Iterable[int]) -> None:
        """The engine just computed these blocks: other copies of them were not there."""
        blocks = list(chain)
        for source in self._sources.get(replica, {}).values():
            if Tier.HBM in source.tiers:
                source.tiers[Tier.HBM].one_copy(blocks)


def _held(rank: int, source: EventSource | NamedSource, chain: "array[int]", guess: int) -> Held:
    tiers = source.tiers
    first = tiers.get(_HBM)
    hbm = 0 if first is None else first.prefix(chain, 0, guess)
    if len(tiers) == (first is not None):
        return Held(rank, hbm, 0, 0)
    dram = tiers[Tier.DRAM].prefix(chain, hbm) if Tier.DRAM in tiers else hbm
    disk = tiers[Tier.DISK].prefix(chain, dram) if Tier.DISK in tiers else dram
    remote = tiers[Tier.REMOTE].prefix(chain, disk) if Tier.REMOTE in tiers else disk
    return Held(rank, hbm, dram - hbm, remote - dram)
