"""What was seen of replicas and of LMCache. None, or empty, is what could not be seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvproxy.core.kv_sources import KvSource
from kvproxy.core.lmcache import Instance

Version = tuple[int, ...]


@dataclass(slots=True)
class EventFacts:
    """`told`: the page that names event sources exists; `refusal`: why its sources cannot be
    heard; `deaf`: endpoints nobody listens at, `silent_replays`: those without an answer."""

    told: bool = False
    sources: list[KvSource] = field(default_factory=list)
    refusal: str = ""
    deaf: list[str] = field(default_factory=list)
    silent_replays: list[str] = field(default_factory=list)


@dataclass(slots=True)
class PromptFacts:
    """How the engine renders prompts. `text`: a short conversation as the model sees it;
    `steady`: twice the same; `keeps_billing`: Claude Code's changing line reaches the model."""

    text: str | None = None
    steady: bool | None = None
    keeps_billing: bool | None = None


@dataclass(slots=True)
class Pass:
    """One sending of the probe prompt. `cached_tokens` None: the answer does not say. Deltas are
    of the engine's counters over the request, None where it has none; other traffic counts too."""

    prompt_tokens: int
    cached_tokens: int | None
    ttft_s: float
    hits_delta: float | None = None
    lookups_delta: float | None = None
    lmcache_hits_delta: float | None = None
    lmcache_stored_delta: float | None = None


@dataclass(slots=True)
class ProbeFacts:
    """`passes` of one prompt, in order, by data-parallel rank (-1: whichever took it); `hashes`:
    the engine's name of the prompt's last whole block, by rank, as its KV events told it."""

    passes: dict[int, list[Pass]] = field(default_factory=dict)
    hashes: dict[int, str] = field(default_factory=dict)
    token_ids: list[int] | None = None
    refusal: str = ""


@dataclass(slots=True)
class ReplicaFacts:
    """`trouble`: why it could not be asked at all; `cache`: labels of its cache_config_info;
    `counters`: sums of its counters and gauges by name; `skew_s`: its clock minus ours."""

    id: str
    url: str
    trouble: str = ""
    engine: str = ""
    version: Version = ()
    models: tuple[str, ...] = ()
    root: str = ""
    cache: Mapping[str, str] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    asleep: bool = False
    tensor_parallel: int | None = None
    skew_s: float | None = None
    idle_closed_s: float | None = None
    events: EventFacts = field(default_factory=EventFacts)
    prompt: PromptFacts = field(default_factory=PromptFacts)
    probe: ProbeFacts | None = None

    @property
    def block_size(self) -> int | None:
        size = self.cache.get("block_size", "")
        return int(size) if size.isdigit() else None

    @property
    def hbm_tokens(self) -> int | None:
        blocks = self.cache.get("num_gpu_blocks", "")
        size = self.block_size
        return int(blocks) * size if blocks.isdigit() and size else None

    @property
    def has_connector(self) -> bool:
        """Something behind HBM is asked for prefixes: LMCache, or the engine's own offload."""
        return any(name.startswith(("lmcache:", "vllm:lmcache")) for name in self.counters) or (
            self.counters.get("vllm:external_prefix_cache_queries_total", 0) > 0
        )


@dataclass(slots=True)
class ServerFacts:
    """One LMCache: a server of its own, or the one inside an engine. `save_decode`: it copies
    every decoded block out; `dram_bytes` of its first tier, `used_bytes` of it in use."""

    name: str
    url: str
    trouble: str = ""
    chunk_tokens: int | None = None
    dram_bytes: int | None = None
    used_bytes: int | None = None
    save_decode: bool | None = None
    hash_algorithm: str = ""


@dataclass(slots=True)
class LmcacheFacts:
    """`coordinator_url` empty: none was named. `probe_chunks`: chunks of the probe prompt that
    were found after it, by instance; `chunk_bytes`: KV bytes of one."""

    coordinator_url: str = ""
    trouble: str = ""
    instances: list[Instance] = field(default_factory=list)
    chunk_tokens: int | None = None
    servers: list[ServerFacts] = field(default_factory=list)
    probe_chunks: Mapping[str, int] | None = None
    chunk_bytes: int | None = None


@dataclass(slots=True)
class Fleet:
    """All that was seen. `token_bytes`: KV bytes of a token, from the model's own config;
    `keepalive_s`: how long kvproxy keeps idle connections to replicas; `today`: dates as a
    template would print them."""

    replicas: list[ReplicaFacts]
    lmcache: LmcacheFacts = field(default_factory=LmcacheFacts)
    token_bytes: float | None = None
    keepalive_s: float = 4.0
    billing_dropped: bool = True
    today: tuple[str, ...] = ()

    @property
    def reached(self) -> list[ReplicaFacts]:
        return [replica for replica in self.replicas if not replica.trouble]
