"""First-seen bytes: one spelling for values that mean the same to a model.

A client that shuffles object keys or lists its tools in another order sends different bytes for the
same meaning, and an engine that renders client order then misses its cache. The first spelling seen
for a canonical digest is kept and sent ever after. Tenants never share an entry: its bytes are
content, and whether it exists tells that somebody sent it.
"""

from xxhash import xxh3_128_intdigest

from kvproxy.core.lru import ByteLru

_ENTRY_OVERHEAD_BYTES = 200


class Representatives:
    """Bounded in bytes (`max_bytes`, bookkeeping included), least recently used goes first."""

    def __init__(self, max_bytes: int) -> None:
        self._entries: ByteLru[tuple[str, int], bytes] = ByteLru(max_bytes)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        return self._entries.size_bytes

    @property
    def evicted(self) -> int:
        return self._entries.evicted

    def intern(self, tenant: str, canonical: bytes, spelling: bytes) -> bytes:
        """The spelling to use for a value whose order-insensitive form is `canonical`."""
        key = (tenant, xxh3_128_intdigest(canonical))
        first = self._entries.get(key)
        if first is not None:
            return first
        self._entries.put(key, spelling, len(spelling) + _ENTRY_OVERHEAD_BYTES)
        return spelling

    def known(self, tenant: str, canonical: bytes) -> bytes | None:
        """The spelling that was interned for it, if one was."""
        return self._entries.get((tenant, xxh3_128_intdigest(canonical)))
