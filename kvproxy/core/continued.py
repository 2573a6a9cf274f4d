"""Prompts that go on from a response by its id: their beginning is not in the body.

The chain of the prompt that led to the response is kept, and what the model answered stands in it
as a segment of its own; so a conversation that goes on by id is known as one that grows.
"""

from kvproxy.core.blocks import FINE_TEXT_BYTES, extend
from kvproxy.core.dialects.prompt import message
from kvproxy.core.lru import ByteLru
from kvproxy.core.types import Chain

_BLOCK_BYTES, _ITEM_BYTES, _ENTRY_BYTES = 14, 8, 900
# What an answer counts for, as its text is not kept: as much as this at most.
_ANSWER_BYTES_PER_TOKEN, _ANSWER_BYTES_MAX = 4, 4 * 2**20


class Continued:
    """Bounded in bytes, by (tenant, id); `head` is the meaning of what stands before the list."""

    def __init__(self, max_bytes: int, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._kept: ByteLru[tuple[str, str], tuple[Chain, bytes]] = ByteLru(max_bytes)

    def keep(
        self, tenant: str, response: str, chain: Chain, head: bytes, answer_tokens: int
    ) -> None:
        """`chain` led to `response`, an answer of so many tokens."""
        grown = chain.until(len(chain))
        size = min(_ANSWER_BYTES_MAX, _ANSWER_BYTES_PER_TOKEN * answer_tokens)
        said = response.encode().ljust(size, b"\0")
        extend(grown, [message("assistant", [said])], self._block_bytes, FINE_TEXT_BYTES)
        grown.trim()
        size = _ENTRY_BYTES + _BLOCK_BYTES * len(grown) + _ITEM_BYTES * len(grown.items)
        self._kept.put((tenant, response), (grown, head), size)

    def chain(self, tenant: str, response: str, head: bytes) -> Chain | None:
        """What the prompt begins with that goes on from `response`; None where that is not known,
        or where another head makes an engine print all of it anew. It is shared: copy it."""
        kept = self._kept.get((tenant, response))
        return kept[0] if kept is not None and kept[1] == head else None
