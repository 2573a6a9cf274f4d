"""What one proxy learned from a replica's KV events, as told to the others: our names of blocks.

A tenth of the bytes of the events themselves, and a fraction of their work: token ids are hashed,
the engine's names translated and copies counted by the proxy that listens, once for all.
"""

from array import array
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec

from kvproxy.core.kv_sources import SourceKey
from kvproxy.core.shared_words import WordError
from kvproxy.core.types import Tier

_WORD_BYTES = 8
# Between two digests of one source; more than an engine announces in a second.
CHANGES_MAX = 4096

_Name = Annotated[str, msgspec.Meta(max_length=256)]
_Words = Annotated[bytes, msgspec.Meta(max_length=8 * 2**20)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Added(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """Blocks that follow each other behind `parent`, made by the request `session` if it told."""

    tier: Tier
    stride: Annotated[int, msgspec.Meta(ge=1, lt=2**16)]
    parent: Annotated[int, msgspec.Meta(ge=0)]
    names: _Words
    session: _Name = ""


class Gone(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The last copies of these blocks."""

    tier: Tier
    names: _Words


class Emptied(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    tier: Tier


class Begin(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """All that is held follows, from nothing on; `complete` if that is all the replica holds."""

    complete: bool


class Held(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Blocks with the one before each, in no order."""

    tier: Tier
    stride: Annotated[int, msgspec.Meta(ge=1, lt=2**16)]
    names: _Words
    parents: _Words


class Whole(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """What Begin promised has been told."""


Change = Added | Gone | Emptied | Begin | Held | Whole


class Digest(NamedTuple):
    """The `number`th about a source since `origin` began to tell of it."""

    origin: _Name
    replica: _Name
    rank: Annotated[int, msgspec.Meta(ge=0, lt=2**16)]
    number: _Count
    block_size: Annotated[int, msgspec.Meta(ge=0, lt=2**20)]
    changes: list[Change]


class Wanted(NamedTuple):
    """Somebody does not know all of these sources."""

    sources: Annotated[list[tuple[_Name, int]], msgspec.Meta(max_length=4096)]


_DIGEST = msgspec.msgpack.Decoder(Digest)
_WANTED = msgspec.msgpack.Decoder(Wanted)
_encode = msgspec.msgpack.Encoder().encode


class Changes:
    """What happened to the blocks of one source since it was last told. `overflown`: too much to
    tell, or not to be told by changes: all that is held has to be told again."""

    def __init__(self) -> None:
        self.told: list[Change] = []
        self.overflown = False

    def added(self, tier: Tier, stride: int, parent: int, names: "array[int]") -> None:
        if len(names):
            self._tell(Added(tier, stride, parent, names.tobytes()))

    def made_by(self, session: str) -> None:
        """The request that made the blocks added last."""
        last = self.told[-1] if self.told else None
        if isinstance(last, Added):
            self.told[-1] = msgspec.structs.replace(last, session=session)

    def gone(self, tier: Tier, names: Sequence[int]) -> None:
        if names:
            self._tell(Gone(tier, packed(names)))

    def emptied(self, tier: Tier) -> None:
        self._tell(Emptied(tier))

    def begin_anew(self) -> None:
        self.told.clear()
        self.overflown = True

    def _tell(self, change: Change) -> None:
        if self.overflown:
            return
        self.told.append(change)
        if len(self.told) > CHANGES_MAX:
            self.begin_anew()


def packed(names: Sequence[int]) -> bytes:
    return array("Q", names).tobytes()


def words(data: bytes) -> list[int]:
    """Raises WordError."""
    if len(data) % _WORD_BYTES:
        raise WordError("names that are no words")
    return array("Q", data).tolist()


def digest_bytes(digest: Digest) -> bytes:
    return b"d" + _encode(digest)


def wanted_bytes(sources: Sequence[SourceKey]) -> bytes:
    return b"w" + _encode(Wanted(list(sources)))


def told_from(data: bytes) -> Digest | Wanted:
    """Raises WordError."""
    try:
        if data[:1] == b"d":
            return _DIGEST.decode(data[1:])
        if data[:1] == b"w":
            return _WANTED.decode(data[1:])
    except msgspec.MsgspecError as error:
        raise WordError(str(error)) from None
    raise WordError(f"a message of unknown kind {data[:1]!r}")
