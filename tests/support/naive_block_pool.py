"""A block pool as vLLM keeps it: one entry a block, one ordered dict as free queue."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Block:
    size: int
    refs: int = 0
    used_at: float = 0.0


@dataclass(slots=True)
class NaiveHold:
    hashes: list[int] = field(default_factory=list)


class NaiveBlockPool:
    """The rules of PrefixTree, block by block; work is proportional to the prompt each time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.blocks: dict[int, Block] = {}
        self.free: OrderedDict[int, None] = OrderedDict()
        self.evicted = 0

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks.values())

    def match(self, hashes: Sequence[int]) -> int:
        for index, key in enumerate(hashes):
            if key not in self.blocks:
                return index
        return len(hashes)

    def pin(self, hashes: Sequence[int]) -> tuple[NaiveHold, int]:
        held = self.match(hashes)
        for key in hashes[:held]:
            if self.blocks[key].refs == 0:
                del self.free[key]
            self.blocks[key].refs += 1
        return NaiveHold(list(hashes[:held])), held

    def extend(self, hold: NaiveHold, hashes: Sequence[int], sizes: Sequence[int]) -> None:
        if hashes:
            self._shrink(sum(sizes))
        for key, size in zip(hashes, sizes, strict=True):
            assert key not in self.blocks
            self.blocks[key] = Block(size, refs=1)
            hold.hashes.append(key)

    def release(self, hold: NaiveHold, at: float) -> None:
        for key in reversed(hold.hashes):
            block = self.blocks[key]
            block.refs -= 1
            block.used_at = at
            if block.refs == 0:
                self.free[key] = None
        self._shrink()

    def next_victim_used_at(self) -> float | None:
        return next((self.blocks[key].used_at for key in self.free), None)

    def clear(self) -> None:
        while self.free:
            self._evict()

    def resize(self, capacity: int) -> None:
        self.capacity = capacity
        self._shrink()

    def _shrink(self, wanted: int = 0) -> None:
        while self.free and self.size + wanted > self.capacity:
            self._evict()

    def _evict(self) -> None:
        key, _ = self.free.popitem(last=False)
        self.evicted += self.blocks.pop(key).size
