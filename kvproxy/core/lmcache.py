"""What LMCache says about who holds a prefix in DRAM, on disk or farther away, as plain values.

Its coordinator knows every chunk of every server; the controller before it knew one holder of each
chunk. Both are asked with token ids, since LMCache hashes chunks in a way of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec

from kvproxy.core.types import Tier

# Instance → tier → tokens. Tiers add up to the longest prefix of which the instance can load every
# chunk, each chunk counted where it is read fastest.
Holdings = dict[str, dict[Tier, int]]
# The instance that stands for a store which every instance reads, as an S3 bucket.
SHARED = ""

# The coordinator refuses longer prompts; 1M tokens are 7 MB of JSON.
TOKENS_MAX = 1_000_000
_FASTEST_FIRST = (Tier.DRAM, Tier.DISK, Tier.REMOTE)
# Backends of the second level that are a device of the node itself.
_LOCAL_BACKENDS = frozenset({"fs", "fs_native", "raw_block", "dax"})
_CONTROLLER_TIERS = {
    "LocalCPUBackend": Tier.DRAM,
    "LocalDiskBackend": Tier.DISK,
    "GdsBackend": Tier.DISK,
}


class LmcacheError(Exception):
    """An answer that is not what LMCache writes."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A registered LMCache server; its HTTP side serves /config and /status."""

    id: str
    host: str
    http_port: int


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What a server's own /config says. `dram_bytes` is the size of its first level."""

    chunk_tokens: int
    dram_bytes: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """`chunk_bytes`: KV bytes of one chunk over all ranks, None when nothing was found. `keys`:
    by which the same can be asked again, None where that cannot be."""

    holdings: Holdings
    chunk_bytes: int | None
    keys: "Keys | None" = None


@dataclass(frozen=True, slots=True)
class Keys:
    """LMCache's names of a prompt's chunks: `hashes`, each `width` bytes, and what stands beside
    each of them, one a rank and group of layers."""

    hashes: bytes
    width: int
    beside: tuple[Mapping[str, Any], ...]

    @property
    def chunks(self) -> int:
        return len(self.hashes) // self.width


class _Placement(msgspec.Struct):
    instance_id: str
    tier: str
    backend: str = ""
    size_bytes: int = 0
    shared: bool = False


class _Key(msgspec.Struct):
    chunk_hash_hex: Annotated[str, msgspec.Meta(pattern="^([0-9a-f][0-9a-f])+$")]
    model_name: str = ""
    kv_rank: int = 0
    object_group_id: int = 0
    cache_salt: str = ""


class _Result(msgspec.Struct):
    key: _Key
    placements: list[_Placement]


class _LookupAnswer(msgspec.Struct):
    results: list[_Result]


class _Registered(msgspec.Struct):
    instance_id: str
    ip: str = ""
    http_port: int = 0


class _Instances(msgspec.Struct):
    instances: list[_Registered]


class _Module(msgspec.Struct):
    tier: str
    capacity_bytes: int = 0


class _InstanceUsage(msgspec.Struct):
    instance_id: str
    modules: list[_Module]


class _Usage(msgspec.Struct):
    instances: list[_InstanceUsage]


class _Transfer(msgspec.Struct):
    chunk_size: Annotated[int, msgspec.Meta(ge=1)]


class _Memory(msgspec.Struct):
    size_in_bytes: int


class _L1(msgspec.Struct):
    memory_config: _Memory


class _Storage(msgspec.Struct):
    l1_manager_config: _L1


class _Config(msgspec.Struct):
    mp: _Transfer
    storage_manager: _Storage


class _ControllerAnswer(msgspec.Struct):
    layout_info: dict[str, tuple[str, Annotated[int, msgspec.Meta(ge=0)]]]


class _Holders(NamedTuple):
    """`size_bytes` 0: nobody holds it."""

    tiers: dict[str, Tier]
    size_bytes: int

    def tier(self, instance: str) -> Tier | None:
        """Where `instance` reads it fastest, its own copy or one that all share."""
        found = [self.tiers[each] for each in (instance, SHARED) if each in self.tiers]
        return min(found, key=_FASTEST_FIRST.index, default=None)


T = TypeVar("T")


def lookup_body(token_ids: Sequence[int], model: str, salt: str, world_size: int) -> bytes:
    """For `POST /directory/lookup`: the whole prompt from its first token on.

    `model` is the path that the engine loaded, not the name it serves; `world_size` is its number
    of ranks (tensor × pipeline parallel).
    """
    return msgspec.json.encode(
        {
            "token_ids": list(token_ids[:TOKENS_MAX]),
            "model_name": model,
            "world_size": world_size,
            "cache_salt": salt,
        }
    )


def keys_body(keys: Keys) -> bytes:
    """For `POST /directory/lookup` of a prompt that was looked up before, without its tokens."""
    width = keys.width
    return msgspec.json.encode(
        {
            "keys": [
                {"chunk_hash_hex": keys.hashes[at : at + width].hex(), **beside}
                for at in range(0, len(keys.hashes), width)
                for beside in keys.beside
            ]
        }
    )


def controller_body(token_ids: Sequence[int]) -> bytes:
    """For the older controller's `POST /lookup`, which knows neither model nor salt."""
    return msgspec.json.encode({"tokens": list(token_ids[:TOKENS_MAX])})


def read_lookup(answer: bytes, chunk_tokens: int) -> Lookup:
    """Raises LmcacheError."""
    chunks = list(_chunks(_decode(answer, _LookupAnswer).results))
    holders = [_holders(chunk) for chunk in chunks]
    holdings: Holdings = {}
    for instance in holders[0].tiers if holders else ():
        tiers: dict[Tier, int] = {}
        for chunk in holders:
            tier = chunk.tier(instance)
            if tier is None:
                break
            tiers[tier] = tiers.get(tier, 0) + chunk_tokens
        holdings[instance] = tiers
    size = holders[0].size_bytes or None if holders else None
    return Lookup(holdings, size, _keys(chunks))


def read_controller(answer: bytes) -> Holdings:
    """The controller names a single holder of each chunk, so this is a lower bound. Raises
    LmcacheError."""
    layout = _decode(answer, _ControllerAnswer).layout_info
    return {
        instance: {_CONTROLLER_TIERS.get(location, Tier.REMOTE): tokens}
        for instance, (location, tokens) in layout.items()
        if tokens
    }


def read_instances(answer: bytes) -> list[Instance]:
    """Raises LmcacheError."""
    registered = _decode(answer, _Instances).instances
    return [Instance(each.instance_id, each.ip, each.http_port) for each in registered]


def read_dram_bytes(answer: bytes) -> dict[str, int]:
    """From `/instances/usage`: size of each instance's DRAM; absent where it declared none.
    Raises LmcacheError."""
    sizes: dict[str, int] = {}
    for instance in _decode(answer, _Usage).instances:
        size = sum(module.capacity_bytes for module in instance.modules if module.tier == "l1")
        if size:
            sizes[instance.instance_id] = size
    return sizes


def read_config(answer: bytes) -> ServerConfig:
    """Raises LmcacheError."""
    config = _decode(answer, _Config)
    memory = config.storage_manager.l1_manager_config.memory_config
    return ServerConfig(config.mp.chunk_size, memory.size_in_bytes)


def readers(
    instance: str,
    named: Sequence[tuple[str, str]],
    instances: Mapping[str, Instance],
    replica_hosts: Mapping[str, str],
) -> frozenset[str]:
    """Ids of the replicas that can load what `instance` holds.

    `named` pairs instances with replicas as the operator wrote them; an instance that is not
    among them serves the replicas of its own host. What all share serves all.
    """
    if instance == SHARED:
        return frozenset(replica_hosts)
    paired = frozenset(replica for name, replica in named if name == instance)
    if paired or instance not in instances:
        return paired
    host = instances[instance].host
    return frozenset(replica for replica, at in replica_hosts.items() if at == host)


def by_replica(
    holdings: Holdings,
    named: Sequence[tuple[str, str]],
    instances: Mapping[str, Instance],
    replica_hosts: Mapping[str, str],
) -> dict[str, dict[Tier, int]]:
    """What each replica can load: of several instances it reads, the one that holds most."""
    found: dict[str, dict[Tier, int]] = {}
    for instance, tiers in holdings.items():
        for replica in readers(instance, named, instances, replica_hosts):
            if sum(tiers.values()) > sum(found.get(replica, {}).values()):
                found[replica] = tiers
    return found


def _decode(answer: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LmcacheError(f"unexpected answer: {error}") from error


def _chunks(results: Iterable[_Result]) -> Iterator[list[_Result]]:
    """Results come chunk by chunk, several of each: one per rank and group of layers."""
    chunk: list[_Result] = []
    for result in results:
        if chunk and result.key.chunk_hash_hex != chunk[0].key.chunk_hash_hex:
            yield chunk
            chunk = []
        chunk.append(result)
    if chunk:
        yield chunk


def _keys(chunks: Sequence[list[_Result]]) -> Keys | None:
    """None for chunks that are not all named alike, or none at all."""
    if not chunks:
        return None
    named = [msgspec.structs.asdict(result.key) for result in chunks[0]]
    beside = tuple({k: v for k, v in key.items() if k != "chunk_hash_hex"} for key in named)
    hashes = [bytes.fromhex(chunk[0].key.chunk_hash_hex) for chunk in chunks]
    width = len(hashes[0])
    alike = all(len(chunk) == len(beside) for chunk in chunks)
    if not alike or any(len(each) != width for each in hashes):
        return None
    return Keys(b"".join(hashes), width, beside)


def _holders(chunk: list[_Result]) -> _Holders:
    """Who can load all parts of a chunk: as slow as the slowest part."""
    parts = [_part_holders(part) for part in chunk]
    tiers: dict[str, Tier] = {}
    for instance in {instance for part in parts for instance in part.tiers}:
        found = [tier for part in parts if (tier := part.tier(instance)) is not None]
        if len(found) == len(parts):
            tiers[instance] = max(found, key=_FASTEST_FIRST.index)
    known = all(part.size_bytes for part in parts)
    return _Holders(tiers, sum(part.size_bytes for part in parts) if known else 0)


def _part_holders(part: _Result) -> _Holders:
    tiers: dict[str, Tier] = {}
    for placement in part.placements:
        instance = SHARED if placement.shared else placement.instance_id
        tier = _tier(placement)
        tiers[instance] = min(tier, tiers.get(instance, tier), key=_FASTEST_FIRST.index)
    return _Holders(tiers, max((each.size_bytes for each in part.placements), default=0))


def _tier(placement: _Placement) -> Tier:
    if placement.tier == "l1":
        return Tier.DRAM if placement.backend == "dram" else Tier.DISK
    local = placement.backend in _LOCAL_BACKENDS and not placement.shared
    return Tier.DISK if local else Tier.REMOTE
