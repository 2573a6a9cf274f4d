"""KV cache events as engines publish them, decoded into three kinds of values.

vLLM up to 0.23 sends each event as an array with the tag first, later versions and SGLang as a map
with key "type"; hashes are integers (SGLang's signed) or digests, of which the last 8 bytes are the
integer. Fields and kinds of events that we do not know are ignored.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import msgspec

from kvproxy.core.types import Tier

_WORD = 2**64 - 1
_STORED = (
    *("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium"),
    *("lora_name", "extra_keys", "group_idx", "kv_cache_spec_kind"),
)
_REMOVED = ("block_hashes", "medium", "group_idx")
_TIERS = {
    "GPU": Tier.HBM,
    "CPU": Tier.DRAM,
    "CPU_PINNED": Tier.DRAM,
    "HOST": Tier.DRAM,
    "STORAGE": Tier.DISK,
    "DISK": Tier.DISK,
    "FS": Tier.DISK,
}
# Groups whose blocks say how much of a prompt is held; of the others a window or a state is kept.
_WHOLE_PREFIX = frozenset({"full_attention", "mla_attention", "sink_full_attention", "unknown"})


class KvEventError(ValueError):
    """A payload that is no batch of KV events."""


class Stored(NamedTuple):
    """Blocks that a tier now holds, each hash covering all before it.

    `parent` 0: the blocks start a chain. No `tokens`: a placeholder for blocks told before.
    `extra_keys[i]`: what besides tokens went into hash i. `whole_prefix`: whether the blocks of
    this `group` tell how long a prefix is held.
    """

    hashes: Sequence[int]
    parent: int
    tokens: Sequence[int]
    block_size: int
    tier: Tier
    extra_keys: Sequence[Any] | None
    group: int | None
    whole_prefix: bool
    session: str


class Removed(NamedTuple):
    """One copy of each block is gone from a tier."""

    hashes: list[int]
    tier: Tier
    group: int | None


class Cleared(NamedTuple):
    """The HBM of this rank was emptied; other tiers were not."""


Event = Stored | Removed | Cleared


class Batch(NamedTuple):
    """Events of one engine step. `at`: the engine's clock in seconds."""

    at: float
    events: list[Event]
    rank: int


_decode = msgspec.msgpack.Decoder().decode


def decode_batch(payload: bytes) -> Batch:
    """Raises KvEventError for anything that is no batch."""
    try:
        value = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KvEventError(f"not msgpack: {error}") from error
    if not isinstance(value, list) or len(value) < 2 or not isinstance(value[1], list):
        raise KvEventError("a batch is [time, events, rank]")
    at, raw_events = value[0], value[1]
    rank = value[2] if len(value) > 2 and value[2] is not None else 0
    if not isinstance(at, (int, float)) or not isinstance(rank, int):
        raise KvEventError("a batch is [time, events, rank]")
    return Batch(float(at), _events(raw_events), rank)


def _events(raw_events: list[Any]) -> list[Event]:
    """Removals that follow each other, one a block as vLLM sends them, become one."""
    events: list[Event] = []
    last, where = None, None
    for raw in raw_events:
        removes = type(raw) is dict and raw.get("type") == "BlockRemoved"
        if removes and last is not None and _where(raw) == where:
            # Nothing else of it has to be read: half of all events are such.
            last.hashes.extend(_hashes(raw))
            continue
        event = _event(raw)
        if type(event) is not Removed:
            last = None
        elif last is not None and (event.tier, event.group) == (last.tier, last.group):
            last.hashes.extend(event.hashes)
            continue
        else:
            last, where = event, _where(raw) if removes else None
        if event is not None:
            events.append(event)
    return events


def _where(raw: Mapping[str, Any]) -> tuple[object, object, object]:
    """What _tier() and _group() of a removal follow from."""
    return raw.get("medium"), raw.get("locality"), raw.get("group_idx")


def _event(raw: Any) -> Event | None:
    if isinstance(raw, dict):
        tag, fields = raw.get("type"), raw
    elif isinstance(raw, list) and raw:
        tag = raw[0]
        names = _STORED if tag == "BlockStored" else _REMOVED
        fields = dict(zip(names, raw[1:], strict=False))
    else:
        raise KvEventError("an event is an array or a map")
    if not isinstance(tag, str):
        raise KvEventError("an event has no type")
    if tag == "BlockStored":
        return _stored(fields)
    if tag == "BlockRemoved":
        return Removed(_hashes(fields), _tier(fields), _group(fields))
    return Cleared() if tag == "AllBlocksCleared" else None


def _stored(fields: Mapping[str, Any]) -> Stored:
    parent, tokens = fields.get("parent_block_hash"), fields.get("token_ids") or ()
    block_size, kind = fields.get("block_size"), fields.get("kv_cache_spec_kind")
    extra, session = fields.get("extra_keys"), fields.get("session_id")
    if not isinstance(block_size, int) or not isinstance(tokens, (list, tuple)):
        raise KvEventError("BlockStored without token_ids and block_size")
    if extra is not None and not isinstance(extra, list):
        raise KvEventError("extra_keys is not a list")
    if parent is None and fields.get("cache_salt"):
        # SGLang's place for what vLLM has among the first block's extra keys.
        extra = [[fields["cache_salt"]]]
    if tokens and block_size < 1:
        raise KvEventError("BlockStored with blocks of no size")
    if tokens and isinstance(tokens[0], list):
        # EAGLE bigrams: each position is a pair of tokens.
        if not all(isinstance(pair, list) for pair in tokens):
            raise KvEventError("token_ids are pairs or they are not")
        tokens = [token for pair in tokens for token in pair]
        block_size *= 2
    return Stored(
        _hashes(fields),
        0 if parent is None else _word(parent),
        tokens,
        block_size,
        _tier(fields),
        extra if extra is not None and any(extra) else None,
        _group(fields),
        kind is None or kind in _WHOLE_PREFIX,
        session if isinstance(session, str) else "",
    )


def _hashes(fields: Mapping[str, Any]) -> list[int]:
    hashes = fields.get("block_hashes")
    if not isinstance(hashes, list):
        raise KvEventError("an event without block_hashes")
    if len(hashes) == 1 and type(hashes[0]) is int and hashes[0] > 0:
        return hashes
    if _are_words(hashes):
        return hashes
    return [_word(value) for value in hashes]


def _are_words(hashes: list[Any]) -> TypeGuard[list[int]]:
    """Whether they can be taken as they are, which they nearly always can."""
    return all(type(value) is int for value in hashes) and (not hashes or min(hashes) > 0)


def _word(value: object) -> int:
    """A block hash as a word that is never 0, which means `none` here."""
    if isinstance(value, bytes):
        value = int.from_bytes(value[-8:], "big")
    if not isinstance(value, int):
        raise KvEventError(f"a block hash is an integer or bytes, not {type(value).__name__}")
    return value & _WORD or 1


def _tier(fields: Mapping[str, Any]) -> Tier:
    medium = fields.get("medium")
    if medium is None:
        return Tier.HBM
    if not isinstance(medium, str):
        raise KvEventError("medium is not text")
    tier = _TIERS.get(medium.upper())
    if tier is None:
        # In-process LMCache names the device of a tensor: not GPU, so a tier behind it.
        tier = Tier.DRAM if medium.startswith(("cpu", "cuda")) else Tier.REMOTE
    far = tier is not Tier.HBM and fields.get("locality") == "REMOTE"
    return Tier.REMOTE if far else tier


def _group(fields: Mapping[str, Any]) -> int | None:
    group = fields.get("group_idx")
    return group if isinstance(group, int) else None
