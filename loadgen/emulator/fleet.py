"""Emulated replicas listening on ports of one process."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from loadgen.emulator.app import ReplicaApp
from loadgen.emulator.block_events import BlockEvents
from loadgen.emulator.lmcache import Coordinator
from loadgen.emulator.planted import KEEPALIVE_S, SEED_MASK, Planted
from loadgen.emulator.publisher import KvPublisher
from loadgen.emulator.replica import Replica
from loadgen.emulator.settings import EmulatorSettings
from loadgen.emulator.transfer_legs import Place
from loadgen.emulator.transfers import Ledger, Transfers
from loadgen.engine.dram_tier import DramTier
from loadgen.tokens import StandInTokeniser, Tokeniser, VocabularyTokeniser

PORT_MAX = 65_535
EXIT_S = 0.5  # from the death of an engine to the end of its API process


class Listener:
    """One replica and its socket. A crash closes both; `start` gives a fresh replica, with an
    empty cache, on the same port."""

    def __init__(
        self,
        settings: EmulatorSettings,
        tokeniser: Tokeniser,
        host: str,
        port: int,
        ledger: Ledger,
    ) -> None:
        self._settings = settings
        self._tokeniser = tokeniser
        self._ledger = ledger
        self._host = host
        self.port = port
        self.replica: Replica | None = None
        self.publisher: KvPublisher | None = None
        self._runner: web.AppRunner | None = None
        self._exit: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen; port 0 becomes the port the system gave. Raises OSError if it is taken."""
        assert self._runner is None, "already started"
        self.replica = Replica(self._settings)
        if self._settings.kv_events:
            self.publisher = await self._announce(self.replica)
        transfers = Transfers(self._settings, self.replica, self._ledger, self._place)
        app = ReplicaApp(
            self._settings,
            self._tokeniser,
            self.replica,
            self.crash,
            publisher=self.publisher,
            transfers=transfers,
        ).build()
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,  # a client that leaves aborts its request at once
            access_log=logging.getLogger("aiohttp.access") if self._settings.access_log else None,
            shutdown_timeout=1.0,
            keepalive_timeout=KEEPALIVE_S if self._planted(Planted.SHORT_KEEPALIVE) else 75.0,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._ledger.peers[f"{self._host}:{self.port}"] = self.replica.held_tokens

    def _place(self) -> Place:
        """Connectors meet on the port that requests come to."""
        return Place(self._host, self.port, f"engine-{self.port}")

    async def _announce(self, replica: Replica) -> KvPublisher:
        """Events of a fresh engine, on the ports that the one before it had."""
        settings, old = self._settings, self.publisher
        sglang = settings.engine == "sglang"
        events = BlockEvents(
            settings.block_size,
            style="sglang" if sglang else settings.kv_events_style,
            hashes="signed" if sglang else settings.kv_events_hashes,
            seed=SEED_MASK if self._planted(Planted.HASH_SEED) else 0,
        )
        publisher = KvPublisher(
            topic=f"kv@{self._host}@{settings.model}",
            buffer_steps=settings.kv_events_buffer,
            frames=3 if settings.kv_events_style == "array" else 4,
        )
        ports = (old.port, old.replay_port) if old is not None else (0, 0)
        await publisher.start(self._host, *ports)
        replica.announce(events, publisher.publish)
        return publisher

    def _planted(self, fault: Planted) -> bool:
        return fault in self._settings.planted

    async def crash(self, abrupt: bool) -> None:
        """The engine dies: streams end with an error event, nothing new is accepted, and after
        EXIT_S connections are cut, as when a vLLM API process follows its engine. `abrupt` cuts
        them at once, as when it is killed."""
        assert self.replica is not None and self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()
        if abrupt:
            self._cut_connections()
        else:
            self._exit = asyncio.get_running_loop().call_later(EXIT_S, self._cut_connections)
        self.replica.crash()

    async def stop(self) -> None:
        if self._exit is not None:
            self._exit.cancel()
            self._exit = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self.replica is not None:
            self.replica.close()
        if self.publisher is not None:
            await self.publisher.close()

    def _cut_connections(self) -> None:
        if self._runner is None or self._runner.server is None:
            return
        for connection in self._runner.server.connections:
            assert isinstance(connection, RequestHandler)
            if connection.transport is not None:
                connection.transport.abort()

    async def restart(self) -> None:
        """A fresh replica where one crashed."""
        await self.stop()
        await self.start()


class Fleet:
    """`count` replicas on consecutive ports from `port`, or on free ones if that is 0."""

    def __init__(
        self, settings: EmulatorSettings, count: int, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        assert count >= 1
        if port and port + count - 1 > PORT_MAX:
            raise ValueError(f"{count} ports from {port} on end beyond {PORT_MAX}")
        tokeniser: Tokeniser = (
            VocabularyTokeniser(settings.tokenizer) if settings.tokenizer else StandInTokeniser()
        )
        self.ledger = Ledger()
        self.listeners = [
            Listener(settings, tokeniser, host, port + index if port else 0, self.ledger)
            for index in range(count)
        ]
        self.coordinator = (
            Coordinator(self._tiers, settings.block_size, settings.model, host, settings.planted)
            if settings.lmcache
            else None
        )

    @property
    def urls(self) -> list[str]:
        return [listener.url for listener in self.listeners]

    async def start(self) -> None:
        """All or none: if one cannot listen the others are stopped again."""
        try:
            for listener in self.listeners:
                await listener.start()
            if self.coordinator is not None:
                await self.coordinator.start()
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        self.ledger.close()
        await asyncio.gather(*(listener.stop() for listener in self.listeners))
        if self.coordinator is not None:
            await self.coordinator.stop()

    def _tiers(self) -> list[DramTier | None]:
        return [each.replica.dram if each.replica else None for each in self.listeners]


@asynccontextmanager
async def emulated(settings: EmulatorSettings, n: int = 1) -> AsyncIterator[list[str]]:
    """Run `n` replicas in this event loop; gives their URLs."""
    fleet = Fleet(settings, n)
    await fleet.start()
    try:
        yield fleet.urls
    finally:
        await fleet.stop()
