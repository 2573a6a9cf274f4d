"""The room that an answer takes in a replica's cache behind its prompt."""

from typing import NamedTuple

from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.replica import Replica
from kvproxy.core.types import Usage

# Block hash of an answer: it takes room but no prompt will ask for it.
_ANSWER_MASK = 0x5DEECE66D


def whole(tokens: int, block_size: int) -> int:
    """What stays cached of so many tokens: a block that is not full is used again at once."""
    return tokens // block_size * block_size


def answer_room(usage: Usage, block_size: int) -> int:
    """Tokens of the blocks that an answer takes while it grows, with the one where its prompt
    ended."""
    begun = usage.prompt_tokens % block_size + usage.completion_tokens
    return -(-begun // block_size) * block_size


def answer_kept(usage: Usage, block_size: int) -> int:
    """Tokens of the blocks that an answer has filled; its last token was never computed with."""
    filled = usage.prompt_tokens + max(0, usage.completion_tokens - 1)
    return whole(filled, block_size) - whole(usage.prompt_tokens, block_size)


def keep_answer(
    hbm: PrefixTree, prompt_hash: int, size: int, now: float, retention_s: float
) -> None:
    """Generated blocks take room in the cache like any other, until they are the oldest: then what
    stands before them is next."""
    hbm.keep(prompt_hash ^ _ANSWER_MASK, size, now, retention_s)


def keep(replica: Replica, prompt_hash: int, usage: Usage, now: float, retention_s: float) -> None:
    """In HBM, and in a second tier that stores what is generated, too."""
    size = answer_kept(usage, replica.block_size)
    if not size:
        return
    keep_answer(replica.hbm, prompt_hash, size, now, retention_s)
    if replica.dram is not None and replica.saves_answers:
        keep_answer(replica.dram, prompt_hash, size, now, retention_s)


class Repeats(NamedTuple):
    """Where the answer lies that is kept behind a prompt, in tokens of the one that goes on there;
    nowhere if none is."""

    prompt_hash: int = 0
    start: int = 0
    stop: int = 0

    def found(self, cached: int, prompt_tokens: int) -> bool | None:
        """Whether an engine that held so many tokens of the longer prompt held the answer with
        them; None where that cannot be told: less was held, or there is no answer."""
        if not self.start < self.stop < prompt_tokens or cached < self.start:
            return None
        return cached >= self.stop


NO_REPEATS = Repeats()


def kept_behind(hbm: PrefixTree, prompt_hash: int) -> int:
    """Tokens of the answer that is kept behind a prompt."""
    return hbm.alone(prompt_hash ^ _ANSWER_MASK)


def repeats(hbm: PrefixTree, prompt_hash: int, start: int) -> Repeats:
    """A prompt of `start` cached tokens is gone on from."""
    kept = kept_behind(hbm, prompt_hash)
    return Repeats(prompt_hash, start, start + kept) if kept else NO_REPEATS


def go_on(hbm: PrefixTree, prompt_hash: int) -> None:
    """The next turn repeats the answer as it was generated: its blocks are the new prompt's."""
    hbm.drop(prompt_hash ^ _ANSWER_MASK)
