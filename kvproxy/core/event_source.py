"""What one engine process, or one data-parallel rank of it, has announced to hold.

Block i of a chain is named H_i = xxh3(its token ids, seed = H_{i-1}), mixed with the extra keys
(salt, adapter, image) that the engine hashed too.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest

from kvproxy.core.kv_digest import Changes
from kvproxy.core.kv_events import Cleared, Event, KvEventError, Removed, Stored
from kvproxy.core.parked import Parked
from kvproxy.core.tier_blocks import TierBlocks
from kvproxy.core.types import Tier
from kvproxy.core.word_map import Budget

# What a block may add to both maps of a tier before one of them is seen to have grown.
_BLOCK_BYTES = 128
_PATH_BLOCKS_MAX = 2**20


class Grown(NamedTuple):
    """Blocks that a request made: `hashes` behind `parent` (the root if they start a chain), and
    the `tokens` in them where those are told."""

    session: str
    parent: int
    hashes: "array[int]"
    tokens: Sequence[int] = ()


class Counts:
    """Blocks that could not be used, by reason. `unknown` removals are usually of such blocks."""

    __slots__ = ("orphans", "other_groups", "refused", "stored", "unknown_removals")

    def __init__(self) -> None:
        self.stored = 0
        self.orphans = 0
        self.other_groups = 0
        self.refused = 0
        self.unknown_removals = 0


def root(block_size: int) -> int:
    """The parent of a chain's first block."""
    return xxh3_64_intdigest(b"kv", block_size)


def names_of(tokens: "array[int]", block_size: int, parent: int | None = None) -> "array[int]":
    """Our hash of each whole block of a prompt that nothing but its tokens identifies, or of one
    that goes on behind the block `parent`."""
    data, width, names = tokens.tobytes(), 4 * block_size, array("Q")
    parent = root(block_size) if parent is None else parent
    for at in range(0, len(data) - width + 1, width):
        parent = xxh3_64_intdigest(data[at : at + width], parent) or 1
        names.append(parent)
    return names


class EventSource:
    """apply() is the only thing that changes it. `block_size` 0 until HBM blocks are seen.
    `changes`: what other proxies are to be told."""

    def __init__(self, budget: Budget, changes: Changes | None = None) -> None:
        self._budget = budget
        self._changes = changes
        self._parked = Parked()
        self.tiers: dict[Tier, TierBlocks] = {}
        self.block_size = 0
        self.counts = Counts()

    def apply(self, event: Event) -> Grown | None:
        """Returns what a request that named its session added to HBM.

        Raises KvEventError if the event cannot be, with nothing changed.
        """
        if isinstance(event, Removed):
            self._remove(event)
            return None
        if isinstance(event, Cleared):
            self._drop(Tier.HBM)
            return None
        grown = self._store(event)
        if self._parked:
            self._join(event.hashes)
        return grown

    def path(self, ours: int) -> "array[int] | None":
        """The whole chain that ends with the HBM block `ours`, or None."""
        blocks = self.tiers.get(Tier.HBM)
        if blocks is None:
            return None
        return blocks.path(ours, root(self.block_size), _PATH_BLOCKS_MAX)

    def release(self) -> None:
        for tier in list(self.tiers):
            self._drop(tier)

    def _store(self, event: Stored) -> Grown | None:
        if not event.hashes:
            return None
        blocks = self.tiers.get(event.tier)
        if blocks is None:
            blocks = TierBlocks(self._budget, event.tier, self._changes)
            self.tiers[event.tier] = blocks
        if not self._follows(event, blocks):
            self.counts.other_groups += len(event.hashes)
        elif self._budget.used + len(event.hashes) * _BLOCK_BYTES > self._budget.limit:
            self.counts.refused += len(event.hashes)
        elif not event.tokens:
            self._place(event, blocks)
        elif event.parent and not self._known(event.parent):
            self.counts.orphans += self._parked.wait(event)
        else:
            return self._chain(event, blocks)
        return None

    def _follows(self, event: Stored, blocks: TierBlocks) -> bool:
        """Whether these blocks are of the one group and size whose chain is kept."""
        if not event.whole_prefix:
            return False
        if blocks.group is None:
            blocks.group = event.group
        if event.group is not None and event.group != blocks.group:
            return False
        if not event.tokens:
            return True
        size = event.block_size
        if not self.block_size and event.tier is Tier.HBM:
            self.block_size = size
        if not self.block_size or size < 1 or size % self.block_size:
            return False
        # Masked blocks are left out of the hashes but not out of the tokens: no telling which.
        if len(event.tokens) != len(event.hashes) * size:
            return False
        if not len(blocks):
            blocks.stride = size // self.block_size
        return blocks.stride == size // self.block_size

    def _known(self, engine: int) -> int:
        for blocks in self.tiers.values():
            ours = blocks.ours(engine)
            if ours:
                return ours
        return 0

    def _chain(self, event: Stored, blocks: TierBlocks) -> Grown | None:
        start = self._known(event.parent) if event.parent else root(self.block_size)
        try:
            data = array("I", event.tokens).tobytes()
        except (OverflowError, TypeError) as error:
            raise KvEventError(f"token ids are words of 32 bits: {error}") from error
        names = self._names(event, blocks, data, start)
        # A held block that is told from the chain's start on is no further copy: so the engine
        # reports what a request reused.
        if self._parked.any_removed:
            self._add_still_there(event, blocks, names, start)
        else:
            blocks.add(event.hashes, names, start, copies=event.parent != 0)
        self.counts.stored += len(names)
        if event.session and event.tier is Tier.HBM:
            if self._changes is not None:
                self._changes.made_by(event.session)
            return Grown(event.session, start, names, event.tokens)
        return None

    def _add_still_there(
        self, event: Stored, blocks: TierBlocks, names: "array[int]", parent: int
    ) -> None:
        """Without the blocks whose removal overtook their announcement."""
        for engine, ours in zip(event.hashes, names, strict=True):
            if not self._parked.was_removed(event.tier, engine):
                blocks.add((engine,), array("Q", (ours,)), parent, copies=event.parent != 0)
            parent = ours

    def _names(self, event: Stored, blocks: TierBlocks, data: bytes, parent: int) -> "array[int]":
        """Our hash of each block, or of each chunk's last block."""
        names = array("Q")
        width = 4 * self.block_size
        extra, stride = event.extra_keys, blocks.stride
        at = 0
        for index in range(len(event.hashes)):
            if extra is not None:
                parent ^= _mix(extra, index)
            for _ in range(stride):
                parent = xxh3_64_intdigest(data[at : at + width], parent) or 1
                at += width
            names.append(parent)
        return names

    def _place(self, event: Stored, blocks: TierBlocks) -> None:
        """Blocks that another tier told about: only their names are repeated here."""
        for engine in event.hashes:
            for other in self.tiers.values():
                ours = other.ours(engine)
                if ours:
                    name = array("Q", (ours,))
                    blocks.add((engine,), name, other.parent(ours), copies=False)
                    self.counts.stored += 1
                    break
            else:
                self.counts.orphans += self._parked.expect(event.tier, engine)

    def _join(self, hashes: Sequence[int]) -> None:
        """Place what waited for these blocks, and what waited for that."""
        todo = list(hashes)
        while todo:
            engine = todo.pop()
            for tier in self._parked.expected(engine):
                self._place(
                    Stored((engine,), 0, (), 0, tier, None, None, True, ""), self.tiers[tier]
                )
            for event in self._parked.behind(engine):
                self._store(event)
                todo.extend(event.hashes)
        self._parked.tidy()

    def _remove(self, event: Removed) -> None:
        blocks = self.tiers.get(event.tier)
        if blocks is None:
            self.counts.unknown_removals += len(event.hashes)
            return
        if event.group is not None and blocks.group is not None and event.group != blocks.group:
            return
        for engine in blocks.remove(event.hashes):
            self.counts.unknown_removals += 1
            if self._parked:
                self._parked.removed(event.tier, engine)

    def _drop(self, tier: Tier) -> None:
        blocks = self.tiers.pop(tier, None)
        if blocks is not None:
            blocks.release()
            if self._changes is not None:
                self._changes.emptied(tier)
        self._parked.drop(tier)


def _mix(extra: Sequence[object], index: int) -> int:
    """What beside tokens went into block `index`, as a word to seed its hash with."""
    keys = extra[index] if index < len(extra) else None
    return xxh3_64_intdigest(msgspec.msgpack.encode(keys)) if keys else 0
