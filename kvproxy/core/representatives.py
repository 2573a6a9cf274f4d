"""First-seen bytes: one spelling for values that mean the same to a model.

A client that shuffles object keys or lists its tools in another order sends different bytes for the
same meaning, and an engine that renders client order then misses its cache. The first spelling seen
for a canonical digest is kept and sent ever after. Tenants never share an entry: its bytes are
content, and whether it exists tells that somebody sent it.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from xxhash import xxh3_128_digest

from kvproxy.core.lru import ByteLru

_ENTRY_OVERHEAD_BYTES = 200


class First(NamedTuple):
    """A first spelling: `scope` is a digest of the tenant, `digest` one of the canonical form."""

    scope: bytes
    digest: bytes
    spelling: bytes


@lru_cache(4096)
def scope_of(tenant: str) -> bytes:
    return blake2b(tenant.encode(), digest_size=8).digest()


class Representatives:
    """Bounded in bytes (`max_bytes`, bookkeeping included), least recently used goes first.

    `tell` is called with what is seen here first, for who shares it with others; `adopt` takes what
    others saw before.
    """

    def __init__(self, max_bytes: int) -> None:
        self._entries: ByteLru[tuple[bytes, bytes], bytes] = ByteLru(max_bytes)
        self._replaced: ByteLru[bytes, int] = ByteLru(2**20)
        self.tell: Callable[[First], None] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[First]:
        for (scope, digest), spelling in self._entries.items():
            yield First(scope, digest, spelling)

    @property
    def size_bytes(self) -> int:
        return self._entries.size_bytes

    @property
    def evicted(self) -> int:
        return self._entries.evicted

    def intern(self, tenant: str, canonical: bytes, spelling: bytes) -> bytes:
        """The spelling to use for a value whose order-insensitive form is `canonical`."""
        return self.first(tenant, xxh3_128_digest(canonical), spelling)

    def first(self, tenant: str, digest: bytes, spelling: bytes) -> bytes:
        """The same, by the digest of that form."""
        key = (scope_of(tenant), digest)
        first = self._entries.get(key)
        if first is not None:
            return first
        self._entries.put(key, spelling, len(spelling) + _ENTRY_OVERHEAD_BYTES)
        if self.tell is not None:
            self.tell(First(*key, spelling))
        return spelling

    def known(self, tenant: str, canonical: bytes) -> bytes | None:
        """The spelling that was interned for it, if one was."""
        return self._entries.get((scope_of(tenant), xxh3_128_digest(canonical)))

    def adopt(self, first: First) -> bool:
        """Use what another proxy saw first; whether another spelling was used here so far."""
        key = first.scope, first.digest
        before = self._entries.get(key)
        if before == first.spelling:
            return False
        size = len(first.spelling) + _ENTRY_OVERHEAD_BYTES
        self._entries.put(key, first.spelling, size)
        if before is None:
            return False
        edition = self._replaced.get(first.scope) or 0
        self._replaced.put(first.scope, edition + 1, 100)
        return True

    def edition(self, tenant: str) -> int:
        """Changes when a spelling that was used before is used no more."""
        if not self._replaced.size_bytes:
            return 0
        return self._replaced.get(scope_of(tenant)) or 0
