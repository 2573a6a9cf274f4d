"""What proxies of a fleet tell each other through their store, as bytes.

Session keys and tenants are digests there: who reads the store learns no id. Whatever comes from it
is checked like anything else that comes from outside.
"""

from hashlib import blake2b
from typing import Annotated, NamedTuple

import msgspec

from kvproxy.core.items import HEAD_KINDS, kind_of
from kvproxy.core.types import Chain, Identity, Learned

KEY_BYTES = 16
SCOPE_BYTES = 8
DIGEST_BYTES = 16
# Besides the end and the head: 1, 2, 4, … blocks before the end, for turns that changed their tail.
_MARKS_BEFORE_END = 6

_Name = Annotated[str, msgspec.Meta(max_length=256)]
_Size = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]


class WordError(ValueError):
    """What came from the store is not what proxies write there."""


class Mark(NamedTuple):
    """The hash that covers the first `blocks` blocks of a chain."""

    blocks: _Size
    hash: Annotated[int, msgspec.Meta(ge=0)]


class Bound(NamedTuple):
    """A conversation's latest turn of `tokens` prompt tokens was placed on `replica` by the proxy
    `origin`; `marks` say how much of its chain went there. `process` names the engine's process
    by when it began, which the engine says; 0 where it does not."""

    origin: _Name
    replica: _Name
    tokens: _Size
    marks: Annotated[tuple[Mark, ...], msgspec.Meta(max_length=16)]
    process: float = 0.0


class ReplicaLoad(NamedTuple):
    """What one proxy has on one replica: requests decoding and waiting, seconds of prefill owed."""

    replica: _Name
    decoding: _Size
    waiting: _Size
    waiting_s: Annotated[float, msgspec.Meta(ge=0)]


class Loads(NamedTuple):
    """All that the proxy `origin` has under way; replicas it uses not at all are left out."""

    origin: _Name
    rows: Annotated[tuple[ReplicaLoad, ...], msgspec.Meta(max_length=4096)]


class Told(NamedTuple):
    key: bytes
    version: int
    bound: Bound


class Spelt(NamedTuple):
    """The first spelling of a value of one tenant: see core/representatives."""

    scope: bytes
    digest: bytes
    spelling: bytes


class Lessons(NamedTuple):
    """What answers to the proxy `origin` taught."""

    origin: _Name
    lessons: Annotated[tuple[Learned, ...], msgspec.Meta(max_length=4096)]


Word = Told | Spelt | Loads | Lessons
_LESSONS = msgspec.msgpack.Decoder(Lessons)
_BOUND = msgspec.msgpack.Decoder(Bound)
_LOADS = msgspec.msgpack.Decoder(Loads)
_encode = msgspec.msgpack.Encoder().encode


def session_key(identity: Identity, namespace: str) -> bytes:
    parts = "\0".join(f"{len(part)}:{part}" for part in identity.key)
    return blake2b(parts.encode(), digest_size=KEY_BYTES, key=namespace.encode()[:64]).digest()


def marks_of(chain: Chain) -> tuple[Mark, ...]:
    """Where to find this chain again in one that goes on, or only begins, like it."""
    blocks = len(chain)
    at = {blocks} | {blocks - (1 << step) for step in range(_MARKS_BEFORE_END)}
    head = next((i for i, item in enumerate(chain.items) if kind_of(item) not in HEAD_KINDS), 0)
    if head:
        at.add(chain.segment_ends[head - 1])
    return tuple(Mark(n, chain.hashes[n - 1]) for n in sorted(at) if 0 < n <= blocks)


def bound_bytes(bound: Bound) -> bytes:
    return _encode(bound)


def bound_from(data: bytes) -> Bound:
    try:
        return _BOUND.decode(data)
    except msgspec.MsgspecError as error:
        raise WordError(str(error)) from None


def told_head(key: bytes) -> bytes:
    """What the store puts before version, blank and Bound when it passes a binding on."""
    return b"b" + key


def spelt_bytes(spelt: Spelt) -> bytes:
    return b"r" + spelt.scope + spelt.digest + spelt.spelling


def loads_bytes(loads: Loads) -> bytes:
    return b"l" + _encode(loads)


def lessons_bytes(lessons: Lessons) -> bytes:
    return b"t" + _encode(lessons)


def message_from(data: bytes) -> Word:
    """Raises WordError."""
    kind, body = data[:1], data[1:]
    if kind == b"b":
        version, blank, bound = body[KEY_BYTES:].partition(b" ")
        if not blank or not version.isdigit() or len(version) > 20:
            raise WordError("a binding without a version")
        return Told(body[:KEY_BYTES], int(version), bound_from(bound))
    if kind == b"r" and len(body) > SCOPE_BYTES + DIGEST_BYTES:
        rest = body[SCOPE_BYTES:]
        return Spelt(body[:SCOPE_BYTES], rest[:DIGEST_BYTES], rest[DIGEST_BYTES:])
    if kind in (b"l", b"t"):
        try:
            return _LOADS.decode(body) if kind == b"l" else _LESSONS.decode(body)
        except msgspec.MsgspecError as error:
            raise WordError(str(error)) from None
    raise WordError(f"a message of unknown kind {kind!r}")
