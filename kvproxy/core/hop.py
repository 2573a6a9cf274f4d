"""What workers and the placement process say to each other, and how it is framed.

A frame is a length and a MessagePack list: all that one turn of an event loop had to say. `n` names
a claim of a worker from its asking to its end, `q` a question and its answer; both count up within
a connection.
"""

from array import array
from collections.abc import Sequence
from operator import attrgetter
from struct import Struct as Layout
from typing import Any

import msgspec

from kvproxy.core.errors import ProxyError
from kvproxy.core.score import Match
from kvproxy.core.types import Chain, Identity

# A frame may hold several whole bodies (Done.prompt), none larger than this.
FRAME_BYTES_MAX, PROMPT_BYTES_MAX = 2**28, 2**24
_LENGTH = Layout("<I")

_MATCH = attrgetter(*Match.__struct_fields__)
_IDENTITY = attrgetter(*Identity.__struct_fields__)

IdentityFields = tuple[str | float, ...]


class Packed(msgspec.Struct, array_like=True, gc=False):
    """A chain as the bytes of its arrays."""

    root: int
    hashes: bytes
    text_bytes: bytes
    segment_ends: bytes
    items: bytes


class _Message(msgspec.Struct, array_like=True, gc=False):
    pass


# From workers.


class Hello(_Message, tag=1):
    """The first of a connection: `worker` is another one after every start of a worker."""

    worker: str
    pid: int


class Place(_Message, tag=2):
    """A prompt. `key` is that of the caller if it has a rate; `after` is the claim of the attempt
    before this one, 0 for the first."""

    n: int
    identity: IdentityFields
    chain: Packed
    exclude: Sequence[str]
    priority: int
    request_id: str
    key: str
    after: int
    tenant: str
    previous: str


class Anywhere(_Message, tag=3):
    """A request that is no prompt."""

    n: int
    model: str
    exclude: Sequence[str]
    key: str
    after: int
    tenant: str
    previous: str


class Began(_Message, tag=4):
    """The first token came. Here and below `well`: the replica has shown that it is."""

    n: int
    well: bool


class Done(_Message, tag=5):
    """`usage`: tokens of prompt, completion, cache. `prompt`: salt, path, body as forwarded, if it
    is wanted; `response`: tenant, the answer's name; `streamed`: a good one was."""

    n: int
    well: bool
    usage: tuple[int, int, int | None, int | None] | None
    prompt: tuple[str, str, bytes] | None
    response: tuple[str, str] | None
    streamed: bool = False


class Abort(_Message, tag=6):
    n: int
    well: bool


class Failed(_Message, tag=7):
    replica: str


class Declined(_Message, tag=14):
    replica: str
    wait_s: float  # to be left alone


class MayRetry(_Message, tag=8):
    q: int
    model: str
    exclude: Sequence[str]


class Claim(_Message, tag=9):
    """Spellings first seen: (kind, tenant, digest of the meaning, spelling)."""

    q: int
    claims: Sequence[tuple[int, str, bytes, bytes]]


class Show(_Message, tag=10):
    """A page of kvproxy's own, or a command."""

    q: int
    method: str
    target: str
    header: dict[str, str]
    body: bytes


class Figures(_Message, tag=11):
    """Counters since the worker began, by name: label values and the row."""

    rows: dict[str, list[tuple[list[str], list[float]]]]


class Adopt(_Message, tag=12):
    """A claim that is held already, for a placement process that has just begun."""

    n: int
    identity: IdentityFields
    chain: Packed
    replica: str
    prompt_tokens: int
    prefill_s: float
    began: bool


class Heard(_Message, tag=13):
    q: int
    body: bytes


# From the placement process.


class Placed(_Message, tag=21):
    """`step`: number, parent, turns, and what became of the prompt before: cause, segment, blocks.
    `stake`: the fields of a Stake. `tell`: the prompt is wanted at the end. `session` is that of
    the response gone on from, `pin` and `pinned` are what came of that."""

    n: int
    replica: str
    match: tuple[Any, ...]
    score: tuple[float, ...]
    prompt_tokens: int
    waited_s: float
    step: tuple[int, int | None, int, tuple[str, int, int] | None] | None
    stake: tuple[str, int, int, int, str] | None
    tell: bool
    session: str
    pin: str
    pinned: str


class Refused(_Message, tag=22):
    n: int
    code: str
    message: str
    param: str | None
    retry_after_s: float | None


class Allowed(_Message, tag=23):
    q: int
    yes: bool


class Spelled(_Message, tag=24):
    """Of the claims asked about, by index, those that were spelled before and how."""

    q: int
    first: Sequence[tuple[int, bytes]]


class Shown(_Message, tag=25):
    q: int
    status: int
    content_type: str
    body: bytes
    refusal: "Refused | None" = None


class ReplicaState(msgspec.Struct, array_like=True, gc=False):
    id: str
    url: str
    health: str
    models: Sequence[str]
    kv_events: bool
    hbm_tokens: int
    block_size: int
    weight: float
    api_key: str | None


class State(_Message, tag=26):
    replicas: Sequence[ReplicaState]


class Beat(_Message, tag=27):
    """Nothing new, and alive."""


class Ask(_Message, tag=28):
    q: int
    what: str
    about: str


class Handled(_Message, tag=29):
    """Answers of this frame took so long to find: what the worker waits beyond that is the hop."""

    inside_s: float


FromWorker = (
    Hello | Place | Anywhere | Began | Done | Abort | Failed | Declined | MayRetry | Claim
    | Show | Figures | Adopt | Heard
)  # fmt: skip
FromPlacement = (
    Placed | Refused | Allowed | Spelled | Shown | State | Beat | Ask | Handled
)  # fmt: skip

_ENCODER = msgspec.msgpack.Encoder()
from_worker = msgspec.msgpack.Decoder(list[FromWorker])
from_placement = msgspec.msgpack.Decoder(list[FromPlacement])


class BrokenHopError(Exception):
    """What came is no frame: the other side is of another version, or something else listens."""


def frame(messages: Sequence[FromWorker | FromPlacement]) -> bytearray:
    """`messages` as they go over the wire."""
    framed = bytearray(4)
    _ENCODER.encode_into(messages, framed, 4)
    _LENGTH.pack_into(framed, 0, len(framed) - 4)
    return framed


class Frames:
    """Bytes as they come, to whole frames. `bytes_max` bounds one frame."""

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Payloads that are whole now; raises BrokenHopError."""
        held = self._held
        if not held and len(data) >= 4 and _LENGTH.unpack_from(data)[0] == len(data) - 4:
            # One frame and no more, as it nearly always is.
            self._check(len(data) - 4)
            return [data[4:]]
        held += data
        found, at = [], 0
        while len(held) - at >= 4:
            (length,) = _LENGTH.unpack_from(held, at)
            self._check(length)
            if len(held) - at - 4 < length:
                break
            found.append(bytes(memoryview(held)[at + 4 : at + 4 + length]))
            at += 4 + length
        if at:
            del held[:at]
        return found

    def _check(self, length: int) -> None:
        if length > self._bytes_max:
            raise BrokenHopError(f"a frame of {length} bytes")


def pack(chain: Chain) -> Packed:
    return Packed(
        chain.root,
        chain.hashes.tobytes(),
        chain.text_bytes.tobytes(),
        chain.segment_ends.tobytes(),
        chain.items.tobytes(),
    )


def unpack(packed: Packed) -> Chain:
    """Raises BrokenHopError when it is no chain."""
    try:
        chain = Chain(
            packed.root,
            array("Q", packed.hashes),
            array("I", packed.text_bytes),
            array("I", packed.segment_ends),
            array("Q", packed.items),
        )
    except ValueError as error:
        raise BrokenHopError(f"no chain: {error}") from error
    ended = max(chain.segment_ends, default=0)
    if not ended <= len(chain.hashes) == len(chain.text_bytes):
        raise BrokenHopError("no chain: its arrays differ in length")
    return chain


def match_fields(match: Match) -> tuple[Any, ...]:
    found: tuple[Any, ...] = _MATCH(match)
    return found


def identity_fields(identity: Identity) -> IdentityFields:
    found: IdentityFields = _IDENTITY(identity)
    return found


def identity_of(given: IdentityFields) -> Identity:
    return Identity(*given)  # type: ignore[arg-type]  # as identity_fields gave them


def refused(n: int, error: ProxyError) -> Refused:
    return Refused(n, error.code, error.message, error.param, error.retry_after_s)


def error_of(refusal: Refused) -> ProxyError:
    return ProxyError(
        refusal.code, refusal.message, param=refusal.param, retry_after_s=refusal.retry_after_s
    )
