"""All that the router knows of one replica: identity, health, load, cache model, rates."""

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from kvproxy.core.disagg.connectors import Peer
from kvproxy.core.learn import PrefillRate
from kvproxy.core.life_cycle import Evidence, Health, LifeCycle
from kvproxy.core.load import Load
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.progress import Progress


class Role(StrEnum):
    """What a replica is there for, where prompts are computed apart from answers."""

    BOTH = "both"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(slots=True, eq=False)
class Replica:
    """One engine process. `hbm` models its prefix cache, in tokens; `models` empty = serves any;
    `kv_events`: its announcements are listened to; `peer`: where
    its KV can be fetched from, None if it cannot. `dram` models a second tier, in tokens too, that
    stores all it computes, and what it generates if it `saves_answers`; replicas of one cache
    instance may share one, which then outlives them. `held_tokens`: prompts of
    the requests under way, by which the router keeps it. `emptied_at`: when its cache was last
    seen to have lost everything."""

    id: str
    url: str
    hbm_tokens: int
    rate: PrefillRate
    hbm: PrefixTree = field(init=False)
    weight: float = 1.0
    role: Role = Role.BOTH
    peer: Peer | None = None
    block_size: int = 16
    models: tuple[str, ...] = ()
    life: LifeCycle = field(default_factory=LifeCycle)
    load: Load = field(default_factory=Load)
    running: int = 0
    waiting: int = 0
    kv_events: bool = False
    answer_tokens: float = 0.0
    held_tokens: int = 0
    dram: PrefixTree | None = None
    saves_answers: bool = False
    dram_shared: bool = False
    process_began: float | None = None
    emptied_at: float = -inf
    progress: Progress = field(default_factory=Progress)
    eased_until: float = 0.0
    eased_s: float = 0.0

    def __post_init__(self) -> None:
        self.hbm = PrefixTree(self.hbm_tokens)

    def fit(self, hbm_tokens: int) -> None:
        self.hbm_tokens = hbm_tokens
        self.make_room()

    def gone(self) -> None:
        """Nothing is placed here any more. What was believed of its caches is taken apart: it
        refers to itself, and only the collector would find it."""
        self.fit(0)
        if self.dram is not None and not self.dram_shared:
            self.dram.resize(0)

    def make_room(self) -> None:
        """Answers under way take blocks too. One met at any time has grown to half its length on
        average, so half as many as they took lately are kept free for each: what was evicted for
        them counts as evicted. Half a block of those is the prompt's."""
        room, hbm = self.hbm_tokens, self.hbm
        answer_tokens = (self.answer_tokens - self.block_size) / 2
        if answer_tokens > 0:
            room = max(0, room - round(self.load.in_flight * answer_tokens))
        if room != hbm.capacity or hbm.size > room:
            hbm.resize(room)

    def answered(self, tokens: int) -> None:
        """An answer of so many tokens has ended."""
        self.answer_tokens += 0.1 * (tokens - self.answer_tokens)

    @property
    def pinned(self) -> float:
        """Share of the cache that requests under way hold, text they have in common counted for
        each."""
        return self.held_tokens / self.hbm_tokens if self.hbm_tokens else 1.0

    def ease(self, now: float, over_s: float) -> None:
        """It just came: for `over_s` seconds it is given less work ahead than the others."""
        self.eased_until, self.eased_s = now + over_s, over_s

    def share(self, now: float) -> float:
        """Of the work ahead that it may be given: 0.1 when it came, 1 when it is eased in."""
        if now >= self.eased_until:
            return 1.0
        return max(0.1, 1 - (self.eased_until - now) / self.eased_s)

    def serves(self, model: str) -> bool:
        return not model or not self.models or model in self.models

    @property
    def health(self) -> Health:
        return self.life.health

    @property
    def up(self) -> bool:
        """Whether it takes work, be it to prove itself."""
        return self.health in (Health.READY, Health.SUSPECT, Health.PROBING)

    @property
    def may_try(self) -> bool:
        """Whether work that was placed here may go: a replica that has to prove itself is given
        one request at a time."""
        return self.health is not Health.PROBING or not self.load.in_flight

    def see(self, evidence: Evidence, now: float) -> bool:
        """Whether it changed the replica's state."""
        changed = self.life.see(evidence, now)
        if changed and self.health is Health.EJECTED and self.process_began is None:
            # It does not say when it began, so a restart while it was away would go unnoticed.
            self._emptied(now)
        return changed

    def began(self, process_began: float | None, now: float) -> bool:
        """What the engine's process says about its start; whether it is another process now, whose
        cache is empty."""
        another = None not in (process_began, self.process_began) and (
            process_began != self.process_began
        )
        if another:
            self._emptied(now)
        self.process_began = process_began
        return another

    def lost_all(self) -> None:
        """It found nothing of what it should hold, in whatever tier is its own."""
        self.hbm.clear()
        if self.dram is not None and not self.dram_shared:
            self.dram.clear()

    def _emptied(self, now: float) -> None:
        self.hbm.clear()
        self.emptied_at = now
