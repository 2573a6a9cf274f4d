"""First-seen bytes: one spelling for values that mean the same to a model.

A client that shuffles object keys or lists its tools in another order sends different bytes for the
same meaning, and an engine that renders client order then misses its cache. The first spelling seen
for a canonical digest is kept and sent ever after. Tenants never share an entry: its bytes are
content, and whether it exists tells that somebody sent it.
"""

from collections import OrderedDict

from xxhash import xxh3_128_intdigest

_ENTRY_OVERHEAD_BYTES = 200


class Representatives:
    """Bounded in bytes (`max_bytes`, bookkeeping included), least recently used goes first."""

    def __init__(self, max_bytes: int) -> None:
        assert max_bytes >= 0
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def intern(self, tenant: str, canonical: bytes, spelling: bytes) -> bytes:
        """The spelling to use for a value whose order-insensitive form is `canonical`."""
        key = (tenant, xxh3_128_intdigest(canonical))
        first = self._entries.get(key)
        if first is not None:
            self._entries.move_to_end(key)
            return first
        cost = len(spelling) + _ENTRY_OVERHEAD_BYTES
        if cost > self._max_bytes:
            return spelling
        self._entries[key] = spelling
        self.size_bytes += cost
        while self.size_bytes > self._max_bytes:
            _, dropped = self._entries.popitem(last=False)
            self.size_bytes -= len(dropped) + _ENTRY_OVERHEAD_BYTES
        return spelling
