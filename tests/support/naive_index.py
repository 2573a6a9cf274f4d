"""A block index that keeps every event's words as they are: names are whole prefixes of tokens."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from kvproxy.core.kv_events import Cleared, Event, Removed, Stored
from kvproxy.core.types import Tier

Name = bytes


@dataclass
class NaiveSource:
    """`copies` counts (tier, engine hash); `names` tells what prefix an engine hash stands for."""

    copies: Counter[tuple[Tier, int]] = field(default_factory=Counter)
    names: dict[int, Name] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        if isinstance(event, Cleared):
            for key in [key for key in self.copies if key[0] is Tier.HBM]:
                del self.copies[key]
        elif isinstance(event, Removed):
            for engine in event.hashes:
                if self.copies[event.tier, engine]:
                    self.copies[event.tier, engine] -= 1
                self.copies += Counter()
        else:
            self._store(event)

    def _store(self, event: Stored) -> None:
        name = self.names.get(event.parent, b"")
        for index, engine in enumerate(event.hashes):
            if event.tokens:
                start = index * event.block_size
                tokens = event.tokens[start : start + event.block_size]
                extra = event.extra_keys[index] if event.extra_keys else None
                name = sha256(repr((name, list(tokens), extra)).encode()).digest()
                self.names[engine] = name
            # Told again from the chain's start, or without tokens: a report, no further copy.
            if not self.copies[event.tier, engine] or (event.parent and event.tokens):
                self.copies[event.tier, engine] += 1

    def held(self, tier: Tier) -> dict[int, int]:
        """engine hash -> copies."""
        return {engine: n for (at, engine), n in self.copies.items() if at is tier and n}


def stored(
    hashes: Sequence[int],
    parent: int = 0,
    *,
    tokens: Sequence[int] | None = None,
    size: int = 4,
    tier: Tier = Tier.HBM,
    session: str = "",
    extra: Sequence[Any] | None = None,
    group: int | None = None,
    whole: bool = True,
) -> Stored:
    """An announcement; without `tokens` those of a block are made from its hash."""
    if tokens is None:
        tokens = [(key + n) % 2**32 for key in hashes for n in range(size)]
    return Stored(list(hashes), parent, tokens, size, tier, extra, group, whole, session)


def removed(*hashes: int, tier: Tier = Tier.HBM, group: int | None = None) -> Removed:
    return Removed(list(hashes), tier, group)
