"""The room that an answer takes in a replica's cache behind its prompt."""

from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.types import Usage

# Block hash of an answer: it takes room but no prompt will ask for it.
_ANSWER_MASK = 0x5DEECE66D


def answer_room(usage: Usage, block_size: int) -> int:
    """Tokens of the blocks that the next turn will not extend: those of the answer, and the one
    where the prompt ended, which stays allocated however little it holds."""
    whole = usage.prompt_tokens // block_size * block_size
    blocks = -(-(usage.prompt_tokens + usage.completion_tokens - whole) // block_size)
    return blocks * block_size


def keep_answer(
    hbm: PrefixTree, prompt_hash: int, size: int, now: float, retention_s: float
) -> None:
    """Generated blocks take room in the cache like any other, until they are the oldest: then what
    stands before them is next."""
    hbm.keep(prompt_hash ^ _ANSWER_MASK, size, now, retention_s)
