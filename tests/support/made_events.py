"""An engine's announcements, made up: conversations that grow, branch, are repeated and evicted."""

from random import Random

from kvproxy.core.kv_events import Cleared, Event, Removed, Stored
from kvproxy.core.types import Tier

BLOCK = 4


class Engine:
    """`chains` are those announced at any time, in engine hashes; `asked` names a request."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.held: dict[Tier, list[list[int]]] = {Tier.HBM: [], Tier.DRAM: []}
        self.tokens: dict[int, list[int]] = {}
        self.requests = 0

    def event(self) -> Event:
        tier = self.random.choice([Tier.HBM, Tier.HBM, Tier.DRAM])
        held = self.held[tier]
        what = self.random.random()
        if what < 0.02 and tier is Tier.HBM:
            held.clear()
            return Cleared()
        if what < 0.4 and held:
            return self._evicted(held, tier)
        if what < 0.5 and held:
            # Another copy of what is held.
            chain = self.random.choice(held)
            return self._stored(chain, chain[0], tier)
        return self._grown(tier)

    def _grown(self, tier: Tier) -> Event:
        # A tier behind HBM holds only what was told of by HBM.
        bases = self.held[Tier.HBM]
        base = self.random.choice(bases) if bases and self.random.random() < 0.7 else None
        if tier is Tier.DRAM:
            if base is None:
                return self._grown(Tier.HBM)
            parent = base[0]
            self.held[tier].append(list(base))
            return self._stored(base, parent, tier)
        parent = base[-1] if base is not None else 0
        hashes = [self.random.getrandbits(63) + 1 for _ in range(self.random.randrange(1, 9))]
        for key in hashes:
            self.tokens[key] = [self.random.randrange(1000) for _ in range(BLOCK)]
        chain = [parent, *hashes]
        self.held[tier].append(chain)
        return self._stored(chain, parent, tier)

    def _stored(self, chain: list[int], parent: int, tier: Tier) -> Event:
        self.requests += 1
        tokens = [token for key in chain[1:] for token in self.tokens[key]]
        session = f"request {self.requests}" if tier is Tier.HBM else ""
        return Stored(chain[1:], parent, tokens, BLOCK, tier, None, None, True, session)

    def _evicted(self, held: list[list[int]], tier: Tier) -> Event:
        chain = self.random.choice(held)
        count = self.random.randrange(1, len(chain)) if len(chain) > 1 else 0
        gone = chain[len(chain) - count :][::-1]
        del chain[len(chain) - count :]
        if len(chain) < 2:
            held.remove(chain)
        return Removed(gone, tier, None)
