"""Prompts as block hashes: what a trace says is equal is equal, and nothing else is.

A trace's ids are chained already (one id, one position, one prefix), so a play of a trace turns an
id into a hash by adding its own base. The warm share of tools and system text comes from a base
that all plays have in common.
"""

from array import array
from collections.abc import Hashable
from dataclasses import dataclass, replace

from kvproxy.core.ruler import Ruler
from kvproxy.core.types import Chain
from loadgen.traces.model import Trace, Turn
from loadgen.warm import Warm

# Ids of one play are below this, so plays never meet.
_IDS_PER_PLAY = 1 << 32
# Sub-agents share a prefix of their own, not their parents'. Ids of traces are below this.
_SUB_AGENT_IDS = IDS_END = 1 << 31
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Prompt:
    """`hashes` cover the whole blocks; all plays share the first `warm_blocks` of them."""

    hashes: "array[int]"
    tokens: int
    warm_blocks: int

    def shared(self, other: "Prompt") -> int:
        """Leading blocks the two have in common; ids are chained, so this is a binary search."""
        low, high = 0, min(len(self.hashes), len(other.hashes))
        while low < high:
            middle = (low + high) // 2
            if self.hashes[middle] == other.hashes[middle]:
                low = middle + 1
            else:
                high = middle
        return low


class Play:
    """One play of a trace: `number` tells plays apart, 0 is kept for what they share."""

    def __init__(self, trace: Trace, number: int, warm: Warm) -> None:
        assert number > 0
        self._base = number * _IDS_PER_PLAY
        self._warm = warm
        self._block_size = trace.block_size

    def prompt(self, turn: Turn, fixed_tokens: int, *, sub_agent: bool) -> Prompt:
        """`fixed_tokens`: tools and system text of the agent that asks."""
        hashes = array("Q")
        for first, length in turn.blocks.runs:
            hashes.extend(range(self._base + first, self._base + first + length))
        shared = self._warm.blocks(fixed_tokens, self._block_size, sub_agent=sub_agent)
        warm = min(shared, len(hashes))
        first = _SUB_AGENT_IDS if sub_agent else 0
        hashes[:warm] = array("Q", range(first, first + warm))
        return Prompt(hashes, turn.input_tokens, warm)


class Commons:
    """Who had a block first, where anybody may have what others have: `of` says what a prompt
    begins with that others had before, as the warm blocks of that prompt."""

    def __init__(self) -> None:
        self._first: dict[int, Hashable] = {}

    def of(self, prompt: Prompt, who: Hashable) -> Prompt:
        blocks, first, warm = prompt.hashes, self._first, 0
        while warm < len(blocks) and first.get(blocks[warm], who) != who:
            warm += 1
        for block in blocks[warm:]:
            first.setdefault(block, who)
        return replace(prompt, warm_blocks=warm)


class ExactRuler(Ruler):
    """Every block of a simulated prompt has the same number of tokens, and the ruler knows it."""

    def __init__(self, block_size: int) -> None:
        super().__init__(1)
        self._block_size = block_size
        self._ends = array("I")

    def tokens_at(self, chain: Chain, blocks: int, model: str) -> float:
        return float(blocks * self._block_size)

    def token_ends(self, chain: Chain, held: int, model: str, least: int) -> "array[int]":
        for block in range(len(self._ends), len(chain)):
            self._ends.append((block + 1) * self._block_size)
        return self._ends[held : len(chain)]

    def reach(
        self, chain: Chain, held: int, blocks: int, model: str, *, end: int, position: int
    ) -> tuple[int, int]:
        reached = min(blocks - 1, max(held, position // self._block_size))
        return reached, reached * self._block_size

    def learn(self, chain: Chain, blocks: int, tokens: float, model: str) -> None:
        pass


class Measures:
    """Cumulative text bytes of chains, sliced from one array for all prompts."""

    def __init__(self, block_size: int) -> None:
        self._step = block_size * BYTES_PER_TOKEN
        self._bytes = array("I")

    def of(self, blocks: int) -> "array[int]":
        missing = blocks - len(self._bytes)
        if missing > 0:
            start = len(self._bytes)
            self._bytes.extend((start + i + 1) * self._step for i in range(missing))
        return self._bytes[:blocks]
