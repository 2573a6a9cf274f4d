"""Replicas to which something happens: one after the other, each whole again before the next.

Every replica stands behind a fault proxy, so that engines and networks fail.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import orjson

from loadgen.emulator import EmulatorSettings, Fleet
from loadgen.emulator.fleet import Listener
from tests.support.fault_proxy import NOTHING, Fault, FaultProxy, Kind
from tests.support.wire import ask, request

JSON = [("content-type", "application/json")]
# Long enough for kvproxy to notice, and to see it come back.
_DOWN_S = (1.0, 3.0)
_WELL_S = 2.5

Happening = Callable[[int], Awaitable[None]]


class Suffering:
    """`admin` is kvproxy's listener for operators, known once it runs."""

    def __init__(self, settings: EmulatorSettings, count: int, random: Random) -> None:
        self._fleet = Fleet(settings, count)
        self._random = random
        self._proxies: list[FaultProxy] = []
        self.admin = ""
        self.happened: Counter[str] = Counter()

    async def start(self) -> list[str]:
        await self._fleet.start()
        for index, url in enumerate(self._fleet.urls):
            host, _, port = url.removeprefix("http://").rpartition(":")
            proxy = FaultProxy(host, int(port), seed=index)
            await proxy.start()
            self._proxies.append(proxy)
        return [proxy.url for proxy in self._proxies]

    async def stop(self) -> None:
        for proxy in self._proxies:
            await proxy.stop()
        await self._fleet.stop()

    async def suffer(self, until: float) -> None:
        """One fault after the other until the loop's time is `until`; then all are well."""
        loop = asyncio.get_running_loop()
        faults: dict[str, Happening] = {
            "killed": self._kill,
            "dies": self._die,
            "stalled": self._stall,
            "drained": self._drain,
            "removed": self._remove,
            "refuses": self._network(Fault(Kind.REFUSE)),
            "reset": self._network(Fault(Kind.RESET, after=2000)),
            "truncated": self._network(Fault(Kind.TRUNCATE, after=2000)),
            "silent": self._network(Fault(Kind.STALL, after=2000)),
            "slow": self._network(Fault(Kind.SLOW, delay_s=0.01, piece=256)),
        }
        while loop.time() < until:
            name = self._random.choice(list(faults))
            await faults[name](self._random.randrange(len(self._proxies)))
            self.happened[name] += 1
            await asyncio.sleep(_WELL_S)

    async def inflight(self) -> int:
        """Requests that engines still have."""
        replicas = [listener.replica for listener in self._fleet.listeners]
        return sum(replica.inflight_count for replica in replicas if replica is not None)

    def _listener(self, which: int) -> Listener:
        return self._fleet.listeners[which]

    async def _while(self) -> None:
        await asyncio.sleep(self._random.uniform(*_DOWN_S))

    async def _kill(self, which: int) -> None:
        await self._listener(which).crash(abrupt=True)
        await self._while()
        await self._listener(which).restart()

    async def _die(self, which: int) -> None:
        await self._listener(which).crash(abrupt=False)
        await self._while()
        await self._listener(which).restart()

    async def _stall(self, which: int) -> None:
        replica = self._listener(which).replica
        assert replica is not None
        replica.stall(1e9)
        # Until it is found out, and some more.
        await asyncio.sleep(4.0)
        replica.resume()

    async def _drain(self, which: int) -> None:
        name = self._name(which)
        await self._command("POST", f"/admin/replicas/{name}/drain")
        await self._while()
        await self._command("POST", f"/admin/replicas/{name}/undrain")

    async def _remove(self, which: int) -> None:
        url = self._proxies[which].url
        await self._command("DELETE", f"/admin/replicas/{self._name(which)}")
        await self._while()
        await self._command("POST", "/admin/replicas", orjson.dumps({"url": url}))

    def _network(self, fault: Fault) -> Happening:
        async def happen(which: int) -> None:
            self._proxies[which].fault = fault
            await self._while()
            self._proxies[which].fault = NOTHING

        return happen

    def _name(self, which: int) -> str:
        return self._proxies[which].url.removeprefix("http://")

    async def _command(self, method: str, target: str, body: bytes = b"") -> None:
        got = await ask(self.admin, request(method, target, JSON, body))
        assert got.status in (200, 201), (method, target, got.status, got.body)
