"""The real core, engines that fail, clients that leave: all from one seed, in virtual time."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from random import Random

from kvproxy.adapters.gate import Gate
from kvproxy.adapters.local_placer import LocalPlacer
from kvproxy.core.access import Access
from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.answer import AnswerWatch
from kvproxy.core.diagnosis import Diagnosis
from kvproxy.core.errors import ProxyError
from kvproxy.core.identify import HEADER_RULES
from kvproxy.core.life_cycle import Evidence, Health
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement
from kvproxy.proxy import Headers, Proxy, Record
from tests.simulation.engines import Engine, Wire
from tests.support.makers import make_reader, make_replica, make_router
from tests.support.proxies import pins

PROBE_S = 5.0
STALL_S = 20.0


@dataclass
class Client:
    """One request's client side."""

    body: bytes
    header: dict[str, str]
    request_id: str
    method: str = "POST"
    path: str = "/v1/chat/completions"
    target: str = "/v1/chat/completions"
    raw_headers: Headers = ()
    status: int = 0
    press: Callable[[bool], None] | None = None
    congested: bool = False
    held: bool = False
    tunnels: bool = False
    received: int = 0
    ended: bool = False

    @property
    def started(self) -> bool:
        return self.status != 0

    async def accept(self) -> bytes:
        await asyncio.sleep(0)
        return self.body

    def hold(self) -> None:
        self.held = True

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        raise AssertionError("nobody asks for a tunnel here")

    def hold_back(self, full: bool) -> None:
        raise AssertionError("nobody asks for a tunnel here")

    def start(self, status: int, headers: Headers, placement: Placement) -> None:
        self.status = status

    def send(self, chunk: bytes) -> None:
        self.received += 1

    def streaming(self, watch: AnswerWatch) -> None:
        """Everything is sent by send()."""

    def end(self) -> None:
        self.ended = True


@dataclass
class World:
    seed: int
    replicas: int = 4
    conversations: int = 12
    horizon_s: float = 300.0
    faults: int = 12
    unserved: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    async def live(self) -> None:
        """From the first request to rest; `unserved` names requests that failed needlessly."""
        self.random = Random(self.seed)
        made = [make_replica(f"r{i}", health=Health.STARTING) for i in range(self.replicas)]
        self.router = make_router(made)
        self.engines = {replica.id: Engine() for replica in made}
        self.wire = Wire(self.engines, self.random)
        limits = AdmissionLimits(AllowanceLimits(), backlog_s=2.0, wait_max_s=600.0)
        self.admission = Admission(self.router, limits)
        clock = asyncio.get_running_loop().time
        self.clock = clock
        self.gate = Gate(self.router, self.admission, clock)
        self.proxy = Proxy(
            placer=LocalPlacer(
                self.router,
                self.gate,
                Diagnosis(self.router.ruler, 2**20),
                clock,
                lambda replica: self._soon[replica.id].set(),
            ),
            reader=make_reader(),
            upstream=self.wire,
            rules=HEADER_RULES,
            clock=clock,
            observe=self.records.append,
            access=Access(),
        )
        self._soon = {replica.id: asyncio.Event() for replica in made}
        probes = [asyncio.create_task(self._probe(replica)) for replica in made]
        await asyncio.sleep(0.01)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._misfortune())
            for number in range(self.conversations):
                group.create_task(self._converse(number))
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    def at_rest(self) -> Iterable[str]:
        """What is still held though nothing runs."""
        for replica in self.router.replicas:
            load, pinned = replica.load, pins(replica.hbm)
            if load.in_flight or load.waiting or load.waiting_s or pinned:
                yield f"{replica.id}: {load}, {pinned} pins"
        if self.admission.length:
            yield f"{self.admission.length} tickets wait"
        for name, engine in self.engines.items():
            if engine.attempts:
                yield f"{name}: {len(engine.attempts)} attempts open"

    async def _probe(self, replica: Replica) -> None:
        engine, soon = self.engines[replica.id], self._soon[replica.id]
        while True:
            replica.began(engine.began, self.clock())
            evidence = Evidence.PROBE_OK
            if not engine.alive:
                evidence = Evidence.PROBE_FAILED
            elif replica.progress.stalled_s(engine.running, engine.work, self.clock()) >= STALL_S:
                evidence = Evidence.STALLED
            if replica.see(evidence, self.clock()):
                if replica.health is Health.EJECTED:
                    self.wire.abandon(replica)
                self.gate.changed()
            well = replica.health is Health.READY
            with suppress(TimeoutError):
                await asyncio.wait_for(soon.wait(), PROBE_S if well else 1.0)
            soon.clear()

    async def _misfortune(self) -> None:
        """Things go wrong at random, and in the end are mended, so that everybody can finish."""
        for _ in range(self.faults):
            await asyncio.sleep(self.random.expovariate(self.faults / self.horizon_s))
            replica = self.random.choice(self.router.replicas)
            engine = self.engines[replica.id]
            what = self.random.choice(
                ["crash", "crash", "stall", "refuse", "restart", "restart", "drain", "undrain"]
            )
            if what == "crash":
                engine.crash()
            elif what == "stall":
                engine.stall()
            elif what == "refuse":
                engine.refuses = self.random.choice([0, 429, 500, 503])
            elif what == "restart":
                engine.restart(self.clock())
            else:
                replica.see(Evidence(what), self.clock())
                self.gate.changed()
        for replica in self.router.replicas:
            engine = self.engines[replica.id]
            engine.refuses = 0
            if engine.stalled:
                engine.crash()
            engine.restart(self.clock())
            replica.see(Evidence.UNDRAIN, self.clock())

    async def _converse(self, number: int) -> None:
        random = Random(f"{self.seed}/{number}")
        text = f"conversation {number} " * random.randint(20, 400)
        for turn in range(random.randint(1, 12)):
            await asyncio.sleep(random.expovariate(1 / 15.0))
            text += f"turn {turn} " * random.randint(5, 60)
            body = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % text.encode()
            header = {"content-type": "application/json", "x-session-id": f"s{number}"}
            client = Client(body, header, f"{number}-{turn}")
            patience_s = random.choice([inf, inf, inf, random.expovariate(1 / 5.0)])
            await self._ask(client, patience_s)

    async def _ask(self, client: Client, patience_s: float) -> None:
        well = set(self.router.replicas)
        watch = asyncio.create_task(self._still_well(well))
        request = asyncio.create_task(self.proxy.handle(client))
        try:
            await asyncio.wait([request], timeout=None if patience_s == inf else patience_s)
            request.cancel()
            await request
        except ProxyError as error:
            self._keep_well(well)
            record = next(r for r in reversed(self.records) if r.exchange is client)
            if not client.started and well and record.lost < 2:
                names = sorted(replica.id for replica in well)
                self.unserved.append(f"{client.request_id}: {error.code} though {names} were well")
        except asyncio.CancelledError:
            pass
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _still_well(self, well: set[Replica]) -> None:
        """Keeps in `well` only those that could have served at every moment so far."""
        while True:
            self._keep_well(well)
            await asyncio.sleep(0.05)

    def _keep_well(self, well: set[Replica]) -> None:
        for replica in list(well):
            engine = self.engines[replica.id]
            fine = engine.alive and not engine.stalled and not engine.refuses
            if not fine or replica.health is not Health.READY:
                well.discard(replica)
