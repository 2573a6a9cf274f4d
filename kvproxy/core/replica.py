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
    """One engine process. `hbm` models its prefix cache, in text bytes of chains; `models` empty =
    serves any."""

    id: str
    url: str
    hbm_tokens: int
    rate: PrefillRate
    hbm: PrefixTree = field(init=False)
    bytes_per_token: float = 4.0
    weight: float = 1.0
    block_size: int = 16
    models: tuple[str, ...] = ()
    health: Health = Health.STARTING
    load: Load = field(default_factory=Load)
    probe_failures: int = 0
    running: int = 0
    waiting: int = 0

    def __post_init__(self) -> None:
        self.hbm = PrefixTree(int(self.hbm_tokens * self.bytes_per_token))

    def fit(self, hbm_tokens: int, bytes_per_token: float) -> None:
        """Size the cache model; a change of slope below 1 % is not worth the evictions."""
        slope = bytes_per_token / self.bytes_per_token
        if hbm_tokens == self.hbm_tokens and 0.99 < slope < 1.01:
            return
        self.hbm_tokens, self.bytes_per_token = hbm_tokens, bytes_per_token
        self.hbm.resize(int(hbm_tokens * bytes_per_token))

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
