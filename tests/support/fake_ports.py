"""The proxy's ports without sockets: what they do is scripted, and every await can be counted."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from kvproxy.adapters.local_placer import LocalPlacer
from kvproxy.core.access import Access
from kvproxy.core.admission import Ticket
from kvproxy.core.answer import AnswerWatch
from kvproxy.core.diagnosis import Diagnosis
from kvproxy.core.errors import ProxyError
from kvproxy.core.identify import HEADER_RULES
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement, Router
from kvproxy.proxy import Headers, Proxy, Record
from tests.support.makers import make_reader, make_router


@dataclass
class Steps:
    """Every await of a fake passes here; number `cancel_at` cancels the task in it."""

    cancel_at: int = 0
    passed: int = 0
    names: list[str] = field(default_factory=list)

    async def at(self, name: str) -> None:
        self.passed += 1
        self.names.append(name)
        if self.passed == self.cancel_at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await asyncio.sleep(0)


@dataclass
class FakeExchange:
    steps: Steps
    body: bytes = b""
    method: str = "POST"
    path: str = "/v1/chat/completions"
    header: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    request_id: str = "id-1"
    raw_headers: Headers = ()
    press: Callable[[bool], None] | None = None
    congested: bool = False
    tunnels: bool = False
    status: int = 0
    sent: list[bytes] = field(default_factory=list)
    ended: bool = False
    comments: int = 0
    enough: int = 0
    waited: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def held(self) -> bool:
        return self.comments > 0

    def hold(self) -> None:
        self.comments += 1
        if self.comments >= self.enough:
            self.waited.set()

    @property
    def target(self) -> str:
        return self.path

    @property
    def started(self) -> bool:
        return self.status != 0

    async def accept(self) -> bytes:
        await self.steps.at("accept")
        return self.body

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        raise AssertionError("nobody asks for a tunnel here")

    def hold_back(self, full: bool) -> None:
        raise AssertionError("nobody asks for a tunnel here")

    def start(self, status: int, headers: Headers, placement: Placement) -> None:
        self.status = status

    def send(self, chunk: bytes) -> None:
        self.sent.append(chunk)

    def streaming(self, watch: AnswerWatch) -> None:
        """Everything is sent by send()."""

    def end(self) -> None:
        self.ended = True


@dataclass
class FakeAnswer:
    steps: Steps
    parts: Sequence[bytes | ProxyError]
    status: int = 200
    headers: Headers = ()

    async def relay(self, feed: Callable[[bytes], None], exchange: object) -> None:
        for part in self.parts:
            await self.steps.at("chunk")
            if isinstance(part, ProxyError):
                raise part
            feed(part)


@dataclass
class FakeUpstream:
    """`unreachable` replicas fail; the others give `parts`. `opened` is never left open."""

    steps: Steps
    parts: Sequence[bytes | ProxyError]
    unreachable: frozenset[str] = frozenset()
    status: int = 200
    headers: Headers = ()
    tried: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    opened: int = 0

    @asynccontextmanager
    async def open(
        self, placement: Placement, exchange: object, body: bytes
    ) -> AsyncIterator[FakeAnswer]:
        self.tried.append(placement.replica.id)
        self.bodies.append(body)
        await self.steps.at("open")
        if placement.replica.id in self.unreachable:
            raise ProxyError("upstream_unreachable", "no answer")
        self.opened += 1
        try:
            yield FakeAnswer(self.steps, self.parts, self.status, self.headers)
        finally:
            self.opened -= 1


@dataclass
class FakeGate:
    steps: Steps
    router: Router
    clock: "Clock"
    full: asyncio.Event | None = None
    refusal: ProxyError | None = None

    async def admit(self, ticket: Ticket) -> Placement:
        await self.steps.at("admit")
        if self.full is not None:
            await self.full.wait()
            await self.steps.at("admitted")
            if self.refusal is not None:
                raise self.refusal
        return self.router.place(ticket.identity, ticket.chain, self.clock(), ticket.exclude)

    def changed(self, replica: Replica | None = None) -> None:
        pass


class Clock:
    """A second passes with every look at it."""

    def __init__(self) -> None:
        self._seconds = count(1)

    def __call__(self) -> float:
        return float(next(self._seconds))


def stream(*texts: str, usage: dict[str, object] | None = None) -> list[bytes]:
    events: list[dict[str, object]] = [{"choices": [{"delta": {"content": t}}]} for t in texts]
    if usage is not None:
        events.append({"choices": [], "usage": usage})
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [
        b"data: [DONE]\n\n"
    ]


class World:
    """A proxy on fake ports, and what it reported."""

    def __init__(
        self,
        parts: Sequence[bytes | ProxyError],
        *,
        replicas: int = 3,
        cancel_at: int = 0,
        unreachable: frozenset[str] = frozenset(),
        status: int = 200,
        headers: Headers = (),
        keepalive_s: float | None = None,
    ) -> None:
        self.steps = Steps(cancel_at)
        self.router = make_router(replicas)
        self.upstream = FakeUpstream(self.steps, parts, unreachable, status, headers)
        self.clock = Clock()
        self.records: list[Record] = []
        self.doubted: list[Replica] = []
        self.gate = FakeGate(self.steps, self.router, self.clock)
        self.placer = LocalPlacer(
            self.router,
            self.gate,
            Diagnosis(self.router.ruler, 2**20),
            self.clock,
            self.doubted.append,
        )
        self.proxy = Proxy(
            placer=self.placer,
            reader=make_reader(),
            upstream=self.upstream,
            rules=HEADER_RULES,
            clock=self.clock,
            observe=self.records.append,
            access=Access(),
            keepalive_s=keepalive_s,
        )

    def exchange(self, body: bytes, **given: object) -> FakeExchange:
        return FakeExchange(self.steps, body, **given)  # type: ignore[arg-type]

    def assert_at_rest(self) -> None:
        for replica in self.router.replicas:
            load = replica.load
            assert (load.in_flight, load.waiting, load.waiting_s) == (0, {}, 0.0)
            assert all(run.pins == 0 for run in replica.hbm._root.children.values())
        assert self.upstream.opened == 0
