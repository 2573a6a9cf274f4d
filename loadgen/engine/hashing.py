"""Chained block hashes of token ids: h[i] = xxh3_64(block i, seed = h[i-1]), 8 bytes a block.

Turns of one conversation share all but their tail, so whole strides of a chain are remembered by
a 128-bit digest of their tokens: a 100k-token prompt seen before costs some 25 look-ups.
"""

from collections import OrderedDict
from struct import pack

from xxhash import xxh3_64_intdigest, xxh3_128_digest

TOKEN_BYTES = 4
STRIDE_BLOCKS = 128


class ChainHasher:
    """Chains for one block size; `strides_max` bounds the memory at 1 KiB a stride."""

    def __init__(self, block_size: int, strides_max: int = 16_384) -> None:
        assert block_size > 0 and strides_max > 0
        self._block_bytes = block_size * TOKEN_BYTES
        self._strides_max = strides_max
        self._strides: OrderedDict[bytes, bytes] = OrderedDict()

    def chain(self, tokens: bytes, salt: str = "") -> bytes:
        """Hashes of the full blocks of `tokens` (4 bytes a token); `salt` seeds the chain."""
        seed = xxh3_64_intdigest(salt.encode("utf-8", "surrogatepass")) if salt else 0
        stride_bytes = STRIDE_BLOCKS * self._block_bytes
        parts: list[bytes] = []
        at = 0
        while at + stride_bytes <= len(tokens):
            part = self._stride(tokens[at : at + stride_bytes], seed)
            parts.append(part)
            seed = int.from_bytes(part[-8:], "little")
            at += stride_bytes
        parts.append(self._hashes(tokens[at:], seed))
        return b"".join(parts)

    def _stride(self, tokens: bytes, seed: int) -> bytes:
        key = xxh3_128_digest(tokens, seed)
        known = self._strides.get(key)
        if known is not None:
            self._strides.move_to_end(key)
            return known
        fresh = self._hashes(tokens, seed)
        self._strides[key] = fresh
        if len(self._strides) > self._strides_max:
            self._strides.popitem(last=False)
        return fresh

    def _hashes(self, tokens: bytes, seed: int) -> bytes:
        size = self._block_bytes
        hashes: list[int] = []
        for at in range(0, len(tokens) - size + 1, size):
            seed = xxh3_64_intdigest(tokens[at : at + size], seed)
            hashes.append(seed)
        return pack(f"<{len(hashes)}Q", *hashes)
