"""First-seen values when several processes read bodies: one of them decides for all.

A worker reads with what it knows. A value that nobody confirmed yet is a claim; all claims of a
body are asked at once, and where another worker was first the body is read again.
"""

from collections.abc import Sequence
from typing import NamedTuple

from xxhash import xxh3_128_digest

from kvproxy.core.lru import ByteLru
from kvproxy.core.representatives import Representatives
from kvproxy.core.volatile import VALUE_CHARACTERS_MAX, Frozen

_ENTRY_BYTES = 200
SPELLING, FROZEN = 0, 1

_Key = tuple[int, str, bytes]


class Claim(NamedTuple):
    """`kind` is SPELLING or FROZEN; `meaning` digests what the spelling stands for."""

    kind: int
    tenant: str
    meaning: bytes
    spelling: bytes


class Spellings:
    """In the placement process: the first writer wins. Bounded in bytes, by kind."""

    def __init__(self, kept: Representatives, frozen_max_bytes: int = 4 * 2**20) -> None:
        self._kept = {SPELLING: kept, FROZEN: Representatives(frozen_max_bytes)}

    def first(self, claims: Sequence[tuple[int, str, bytes, bytes]]) -> list[tuple[int, bytes]]:
        """By index, the claims that were spelled otherwise before, and how."""
        found = []
        for index, (kind, tenant, meaning, spelling) in enumerate(claims):
            first = self._kept[kind].first(tenant, meaning, spelling)
            if first != spelling:
                found.append((index, first))
        return found


class _Known(NamedTuple):
    spelling: bytes
    era: int


class Claims:
    """In a worker: what it believes to be first. A new era begins with another placement process,
    which knows nothing yet: then everything is claimed again when it is next seen."""

    def __init__(self, max_bytes: int) -> None:
        self._known: ByteLru[_Key, _Known] = ByteLru(max_bytes)
        self._era = 1
        self._made: dict[_Key, bytes] = {}

    def spelling(self, kind: int, tenant: str, meaning: bytes, spelling: bytes) -> bytes:
        """What to use for `meaning` until more is known."""
        key = (kind, tenant, meaning)
        known = self._known.get(key)
        if known is None:
            known = _Known(spelling, 0)
            self._known.put(key, known, len(spelling) + _ENTRY_BYTES)
        if known.era != self._era:
            self._made[key] = known.spelling
        return known.spelling

    def known(self, kind: int, tenant: str, meaning: bytes) -> bytes | None:
        """What this worker knows of it."""
        known = self._known.get((kind, tenant, meaning))
        return known.spelling if known is not None else None

    @property
    def pending(self) -> bool:
        """Whether something was claimed since."""
        return bool(self._made)

    def take(self) -> list[Claim]:
        """Claims made since they were last taken."""
        made, self._made = self._made, {}
        return [Claim(*key, spelling) for key, spelling in made.items()]

    def settle(self, claims: Sequence[Claim], first: Sequence[tuple[int, bytes]]) -> None:
        """`first` are those that somebody else spelled before."""
        right = dict(first)
        for index, (kind, tenant, meaning, spelling) in enumerate(claims):
            kept = right.get(index, spelling)
            size = len(kept) + _ENTRY_BYTES
            self._known.put((kind, tenant, meaning), _Known(kept, self._era), size)

    def new_era(self) -> None:
        self._era += 1


class SharedRepresentatives(Representatives):
    def __init__(self, claims: Claims) -> None:
        super().__init__(0)
        self._claims = claims

    def intern(self, tenant: str, canonical: bytes, spelling: bytes) -> bytes:
        return self._claims.spelling(SPELLING, tenant, xxh3_128_digest(canonical), spelling)

    def known(self, tenant: str, canonical: bytes) -> bytes | None:
        return self._claims.known(SPELLING, tenant, xxh3_128_digest(canonical))


class SharedFrozen(Frozen):
    def __init__(self, claims: Claims) -> None:
        super().__init__()
        self._claims = claims

    def first(self, key: tuple[str, str, str, int], value: str) -> str:
        if len(value) > VALUE_CHARACTERS_MAX:
            return value
        tenant, *rest = key
        meaning = xxh3_128_digest("\0".join(map(str, rest)).encode(errors="surrogatepass"))
        raw = value.encode(errors="surrogatepass")
        return self._claims.spelling(FROZEN, tenant, meaning, raw).decode(errors="surrogatepass")
