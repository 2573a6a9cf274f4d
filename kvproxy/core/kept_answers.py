"""The room that an answer takes in a replica's cache behind its prompt."""

from kvproxy.core.prefix_tree import PrefixTree
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
    key = [prompt_hash ^ _ANSWER_MASK]
    answer, held = hbm.pin(key)
    if not held:
        answer = hbm.extend(answer, key, [size])
    hbm.release(answer, now, retention_s)


def go_on(hbm: PrefixTree, prompt_hash: int) -> None:
    """The next turn repeats the answer as it was generated: its blocks are the new prompt's."""
    hbm.drop(prompt_hash ^ _ANSWER_MASK)
