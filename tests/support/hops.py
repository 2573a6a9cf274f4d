"""Workers and a placement process in one loop, joined by frames in memory."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from kvproxy.adapters.hop.link import LostError
from kvproxy.adapters.hop.placer import Ears, HopPlacer
from kvproxy.adapters.local_placer import LocalPlacer
from kvproxy.core import claims, hop
from kvproxy.core.access import Access, Key
from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.desk import Desk
from kvproxy.core.diagnosis import Diagnosis
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.identify import identify
from kvproxy.core.representatives import Representatives
from kvproxy.core.router import Router
from kvproxy.core.spellings import Spellings
from kvproxy.core.types import Usage
from kvproxy.proxy import Record
from tests.support.fake_ports import FakeExchange, FakeGate, Steps
from tests.support.makers import make_reader, make_replica, make_router
from tests.support.proxies import pins

READER = make_reader(block_bytes=1024)


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_admission(router: Router, backlog_s: float = 1.0) -> Admission:
    return Admission(router, AdmissionLimits(AllowanceLimits(), backlog_s=backlog_s))


def make_record(body: bytes, session: str = "s", request_id: str = "id-1") -> Record:
    """As it is when a prompt asks to be placed."""
    header = {"content-type": "application/json", "session-id": session}
    exchange = FakeExchange(Steps(), body, header=header, request_id=request_id)
    record = Record(exchange, 0.0)
    record.turn = READER.read(Chat(), "t", body, anew=True)
    record.identity = identify("t", record.turn.model, header, record.turn.members)
    record.body = body
    return record


class MemoryLink:
    """A link that needs no loop: what is said arrives when deliver() is called."""

    def __init__(self, placement: "Placement", placer: HopPlacer) -> None:
        self.placement = placement
        self.placer = placer
        self.up = False
        self.full = False
        self.number = 0
        self._out: list[hop.FromWorker] = []
        self._questions: dict[int, asyncio.Future[hop.FromPlacement]] = {}
        self._q = 0

    def join(self) -> None:
        self.number = self.placement.join(self)
        self.up = True
        self._out = list(self.placer.joined())

    def leave(self) -> None:
        """The worker's end: its messages under way are lost, and so are answers."""
        self.up = False
        self._out = []
        self.placement.leave(self.number)
        for question in self._questions.values():
            question.set_exception(LostError())
        self._questions.clear()
        self.placer.lost()

    def say(self, message: hop.FromWorker, *, at_once: bool = False) -> None:
        if self.up:
            self._out.append(message)

    mention = say

    async def ask(self, make: Callable[[int], hop.FromWorker]) -> hop.FromPlacement:
        if not self.up:
            raise LostError
        self._q += 1
        future = self._questions[self._q] = asyncio.get_running_loop().create_future()
        self.say(make(self._q))
        return await future

    def deliver(self) -> None:
        """What was said, as bytes, to the desk."""
        out, self._out = self._out, []
        for payload in hop.Frames().feed(bytes(hop.frame(out))):
            for message in hop.from_worker.decode(payload):
                self.placement.desk.take(self.number, message, self.placement.clock())

    def hear(self, messages: list[hop.FromPlacement]) -> None:
        for payload in hop.Frames().feed(bytes(hop.frame(messages))):
            for message in hop.from_placement.decode(payload):
                question = self._questions.pop(getattr(message, "q", 0), None)
                if question is not None and not isinstance(message, hop.Ask):
                    question.set_result(message)
                else:
                    self.placer.heard(message)


class Placement:
    """A placement process."""

    def __init__(
        self, clock: Callable[[], float], replicas: int, keys: list[Key], backlog_s: float = 1.0
    ) -> None:
        self.clock = clock
        self.router = make_router([make_replica(f"r{i}") for i in range(replicas)])
        self.admission = make_admission(self.router, backlog_s)
        self.said: dict[int, list[hop.FromPlacement]] = {}
        self.links: dict[int, MemoryLink] = {}
        self.told: list[claims.Told] = []
        self.doubted: list[str] = []
        self.wanted = False
        self.desk = Desk(
            router=self.router,
            admission=self.admission,
            diagnosis=Diagnosis(self.router.ruler, 2**20),
            access=Access(keys),
            spellings=Spellings(Representatives(2**20)),
            ears=claims.Ears(
                doubt=lambda replica: self.doubted.append(replica.id),
                changed=lambda replica: None,
                learned=lambda replica, outcome: None,
                wants=lambda replica: self.wanted,
                told=self.told.append,
                placed=lambda placement: None,
            ),
            say=lambda worker, message: self.said[worker].append(message),
        )

    def join(self, link: MemoryLink) -> int:
        number = len(self.said) + 1
        self.said[number], self.links[number] = [], link
        self.desk.join(number)
        return number

    def leave(self, number: int) -> None:
        del self.links[number]
        self.desk.lost(number, self.clock())

    def deliver(self) -> None:
        for number, link in list(self.links.items()):
            said, self.said[number] = self.said[number], []
            link.hear(said)

    def at_rest(self) -> bool:
        loads = [replica.load for replica in self.router.replicas]
        return (
            not any(load.in_flight or load.waiting or load.waiting_s for load in loads)
            and not any(pins(replica.hbm) for replica in self.router.replicas)
            and not self.admission.length
            and not any(worker.claims for worker in self.desk.workers.values())
            and self.router.held.tokens == 0
        )


@dataclass
class Hop:
    """`workers` and the placement process they are joined to."""

    count: int = 2
    replicas: int = 3
    keys: list[Key] = field(default_factory=list)
    limited: frozenset[str] = frozenset()
    backlog_s: float = 1.0

    def __post_init__(self) -> None:
        self.clock = Time()
        self.alone: list[str] = []
        self.eras = 0
        self.hops: list[float] = []
        self.placement = self.new_placement()
        self.workers = [self._worker() for _ in range(self.count)]

    def new_placement(self) -> Placement:
        return Placement(self.clock, self.replicas, self.keys, self.backlog_s)

    def _worker(self) -> HopPlacer:
        router = make_router([make_replica(f"r{i}") for i in range(self.replicas)])
        gate = FakeGate(Steps(), router, self.clock)  # type: ignore[arg-type]
        diagnosis = Diagnosis(router.ruler, 2**20)
        local = LocalPlacer(router, gate, diagnosis, self.clock, lambda replica: None)
        ears = Ears(
            changed=lambda replica: None,
            new_era=self._another,
            took=self.hops.append,
            alone=self.alone.append,
            answer=lambda what, about: f"{what} {about}".encode(),
            replicas=lambda states: None,
        )
        placer = HopPlacer(local, router, self.clock, self.limited, ears)
        link = MemoryLink(self.placement, placer)
        placer.link = link  # type: ignore[assignment]
        link.join()
        return placer

    def _another(self) -> None:
        self.eras += 1

    def link(self, worker: int) -> MemoryLink:
        link = self.workers[worker].link
        assert isinstance(link, MemoryLink)
        return link

    async def settle(self) -> None:
        """Until nobody has anything to say any more."""
        for _ in range(4):
            for _ in range(3):
                await asyncio.sleep(0)
            for worker in range(self.count):
                if self.link(worker).up:
                    self.link(worker).deliver()
            self.placement.deliver()
        for _ in range(3):
            await asyncio.sleep(0)

    def restart_placement(self) -> None:
        """Another process in its place; whoever was joined to the one before is not any more."""
        for worker in range(self.count):
            if self.link(worker).up:
                self.link(worker).leave()
        self.placement = self.new_placement()
        for worker in range(self.count):
            self.link(worker).placement = self.placement
            self.link(worker).join()


def usage_of(record: Record, cached: int = 0) -> Usage:
    assert record.turn is not None
    return Usage(record.turn.chain.text_bytes[-1] // 4, 5, cached)
