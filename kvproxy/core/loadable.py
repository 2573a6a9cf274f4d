"""What replicas can load of known prompts from tiers behind HBM, as LMCache's servers say.

LMCache names chunks by hashes of their tokens, so it is asked off the request's path. What it says
of a prompt is kept under the end of the prompt's byte chain, for the turns that go on from there.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from kvproxy.core.types import Chain, Tier

# As far back as the previous turn's end can be: the same as for token counts.
_LOOK_BACK_BLOCKS = 512


class Told(NamedTuple):
    """Of a prompt of so many tokens, whose byte chain has so many blocks: leading tokens that each
    replica can load, by tier."""

    byte_blocks: int
    prompt_tokens: int
    by_replica: Mapping[str, Mapping[Tier, int]]


class Loadable:
    """At most `prompts_max` prompts, the one first told of longest ago leaving first."""

    def __init__(self, prompts_max: int) -> None:
        self._prompts_max = prompts_max
        self._told: OrderedDict[int, Told] = OrderedDict()

    def __len__(self) -> int:
        return len(self._told)

    def put(self, chain_end: int, told: Told) -> list[int]:
        """The ends of prompts that had to leave. What is told again of one does not make it any
        newer."""
        self._told[chain_end] = told
        over = max(0, len(self._told) - self._prompts_max)
        return [self._told.popitem(last=False)[0] for _ in range(over)]

    def find(self, chain: Chain) -> Told | None:
        """What was told of the longest known prompt that `chain` begins with."""
        told, hashes = self._told, chain.hashes
        if not told:
            return None
        for end in range(len(hashes), max(0, len(hashes) - _LOOK_BACK_BLOCKS), -1):
            found = told.get(hashes[end - 1])
            if found is not None and found.byte_blocks == end:
                return found
        return None

    def has_room_for(self, chain_end: int) -> bool:
        """Whether no other prompt would have to leave for this one."""
        return chain_end in self._told or len(self._told) < self._prompts_max

    def drop(self, chain_end: int) -> None:
        self._told.pop(chain_end, None)

    def clear(self) -> None:
        """Nobody can be asked any more."""
        self._told.clear()
