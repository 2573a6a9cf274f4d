"""What a run and its workers tell each other, over a socket pair, each message after its length."""

import asyncio
import pickle
from dataclasses import dataclass
from typing import Self

import msgspec
from msgspec import Struct

from loadgen.honesty import Measured
from loadgen.plan import ContentSettings
from loadgen.resume import Past
from loadgen.run_values import RunSettings
from loadgen.sample import Sample
from loadgen.schedule import Share
from loadgen.session import Asking
from loadgen.traces.model import Trace

FRAME_BYTES_MAX = 1 << 31
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a worker needs. `requests` is its part of the budget, `started` the monotonic
    time, of the machine, that samples count from."""

    settings: RunSettings
    traces: list[Trace]
    asking: Asking
    content: ContentSettings
    share: Share
    past: Past
    requests: int | None
    started: float

    def pack(self) -> bytes:
        return pickle.dumps(self)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Only ever from the process that started this one."""
        job = pickle.loads(data)
        assert isinstance(job, cls)
        return job


class Order(Struct, omit_defaults=True):
    """To a worker: begin at a monotonic time; so many users of the whole run; no more requests."""

    begin: float | None = None
    users: int | None = None
    close: str | None = None


class Under(Struct, omit_defaults=True, array_like=True):
    """How far a request in flight has got."""

    conversation: str
    agent: str
    turn: int
    t_first_token: float | None
    status: int


class Done(Struct):
    """A worker's last words."""

    reason: str
    measured: Measured


class Report(Struct, omit_defaults=True):
    """From a worker: all that happened since the last one, up to the monotonic time `until`."""

    until: float
    ready: bool = False
    sent: list[Sample] = []
    under_way: list[Under] = []
    ended: list[Sample] = []
    failed: str = ""
    done: Done | None = None


ORDERS = msgspec.json.Decoder(Order)
REPORTS = msgspec.json.Decoder(Report)


def frame(data: bytes) -> bytes:
    assert len(data) < FRAME_BYTES_MAX
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def message(value: Struct) -> bytes:
    return frame(msgspec.json.encode(value))


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """IncompleteReadError when the other side is gone."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    return await reader.readexactly(length)
