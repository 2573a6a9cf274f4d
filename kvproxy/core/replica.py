"""All that the router knows of one replica: identity, health, load, cache model, rates."""

from dataclasses import dataclass, field
from enum import StrEnum

from kvproxy.core.learn import PrefillRate
from kvproxy.core.load import Load
from kvproxy.core.prefix_tree import PrefixTree


class Health(StrEnum):
    """`starting` until the first successful probe; only `ready` replicas are placed on."""

    STARTING = "starting"
    READY = "ready"
    DOWN = "down"
    DRAINING = "draining"


@dataclass(slots=True, eq=False)
class Replica:
    """One engine process. `hbm` models its prefix cache, in tokens; `models` empty = serves any;
    `kv_events`: its announcements are listened to. `dram` models a second tier, in tokens too, that
    stores all it computes; replicas of one cache instance may share one. `held_tokens`: prompts of
    the requests under way, by which the router keeps it."""

    id: str
    url: str
    hbm_tokens: int
    rate: PrefillRate
    hbm: PrefixTree = field(init=False)
    weight: float = 1.0
    block_size: int = 16
    models: tuple[str, ...] = ()
    health: Health = Health.STARTING
    load: Load = field(default_factory=Load)
    probe_failures: int = 0
    running: int = 0
    waiting: int = 0
    kv_events: bool = False
    answer_tokens: float = 0.0
    held_tokens: int = 0
    dram: PrefixTree | None = None

    def __post_init__(self) -> None:
        self.hbm = PrefixTree(self.hbm_tokens)

    def fit(self, hbm_tokens: int) -> None:
        self.hbm_tokens = hbm_tokens
        self.make_room()

    def make_room(self) -> None:
        """Answers under way take blocks too: an average answer and half a block is kept free for
        each, so that what will be evicted for them counts as evicted already."""
        answers = self.load.in_flight * (self.answer_tokens + self.block_size / 2)
        self.hbm.resize(max(0, self.hbm_tokens - round(answers)))

    def answered(self, tokens: int) -> None:
        """An answer of so many tokens has ended."""
        self.answer_tokens += 0.1 * (tokens - self.answer_tokens)

    @property
    def pinned(self) -> float:
        """Share of the cache that requests under way hold, text they have in common counted for
        each."""
        return self.held_tokens / self.hbm_tokens if self.hbm_tokens else 1.0

    def serves(self, model: str) -> bool:
        return not model or not self.models or model in self.models

    def probe_succeeded(self) -> None:
        self.probe_failures = 0
        if self.health in (Health.STARTING, Health.DOWN):
            self.health = Health.READY

    def probe_failed(self, unhealthy_after: int) -> bool:
        """Whether this failure takes the replica out: its cache did not survive what happened."""
        self.probe_failures += 1
        if self.health is not Health.READY or self.probe_failures < unhealthy_after:
            return False
        self.health = Health.DOWN
        self.hbm.clear()
        return True
