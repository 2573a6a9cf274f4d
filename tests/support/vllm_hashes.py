"""vLLM's own block hashes, rebuilt: proof that captured events are read as they were meant."""

import pickle
from collections.abc import Sequence
from hashlib import sha256


def digest(value: object) -> bytes:
    return sha256(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)).digest()


def chain(blocks: Sequence[Sequence[int]], seed: str, salt: str = "") -> list[int]:
    """The words that events carry: the last 8 bytes of each block's digest."""
    parent, words = digest(seed), []
    for index, block in enumerate(blocks):
        extra = (("cache_salt", salt),) if salt and not index else None
        parent = digest((parent, tuple(block), extra))
        words.append(int.from_bytes(parent[-8:], "big"))
    return words
