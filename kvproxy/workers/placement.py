"""The placement process: all that an App knows of replicas, for workers instead of clients."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs

from kvproxy.adapters.hop.server import HopServer
from kvproxy.adapters.hop.server import Page as HopPage
from kvproxy.adapters.http1.listener import Command, Page, Route, listen
from kvproxy.adapters.prompt_watch import Request
from kvproxy.admin.commands import AdminCommands
from kvproxy.app import App
from kvproxy.core import hop
from kvproxy.core.access import path_of
from kvproxy.core.claims import Ears, Told
from kvproxy.core.desk import Desk
from kvproxy.core.diagnosis import Diagnosis
from kvproxy.core.life_cycle import Health
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement
from kvproxy.core.spellings import Spellings
from kvproxy.ops.logs import log_outcome
from kvproxy.ops.merge import WorkerFigures, hop_alone, hop_seconds
from kvproxy.ops.source_counters import Counted, SourceCounters
from kvproxy.proxy import Exchange
from kvproxy.reload import Load, Reloaded
from kvproxy.settings.model import Settings

log = logging.getLogger("kvproxy.placement")

# Of what a worker passes on: the name of the key that it came with.
OPERATOR = "operator"

# What workers may take beyond the grace of their answers.
_MARGIN_S = 10.0


class PlacementApp(App):
    """Listens at `folder`/hop for workers. Counters of workers that are gone are kept in `folder`,
    so that they outlive this process too. `reload_others`: has them read their settings again."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        load: Load | None = None,
        reload_others: Callable[[], None] = lambda: None,
    ) -> None:
        self._reload_others = reload_others
        super().__init__(settings, load)
        # The one before may have died without taking it away.
        (folder / "hop").unlink(missing_ok=True)
        self._path = str(folder / "hop")
        self._figures = WorkerFigures(folder / "figures")
        self.hop = HopServer(
            admission=self.admission,
            clock=time.monotonic,
            states=self._states,
            show=self._show,
            figures=lambda worker, said: self._figures.heard(worker, said.rows),
            lost=self._figures.save,
            recall=self._recall if self.sharing.store is not None else None,
        )
        self.hop.desk = Desk(
            router=self.router,
            admission=self.admission,
            diagnosis=Diagnosis(self.router.ruler, settings.explain.sessions_max_bytes),
            access=self.access,
            spellings=Spellings(self.spellings),
            ears=Ears(
                self.probe.ask_soon,
                lambda replica: self.hop.changed(),
                log_outcome,
                self.sources.prompts.wants,
                self._told,
                self._placed,
            ),
            say=self.hop.say,
        )
        self.metrics.add(SourceCounters(self._counted))
        self.metrics.count(hop_seconds())
        self.metrics.count(hop_alone())

    async def start(self) -> str:
        """Returns the path that is listened on; replicas have been asked once by then."""
        address = self.settings.admin.address()
        if address is not None and self.admin_server is not None:
            log.info("operators: %s", await listen(self.admin_server, *address))
        await self.probe.start()
        self.regime.start()
        await self.sources.start()
        await self.finding.start()
        await self.sharing.start()
        await self.hop.start(self._path)
        return self._path

    async def stop(self) -> None:
        """Workers that still drain are waited for."""
        await self.hop.deserted(self.settings.server.ends_in_s + _MARGIN_S)
        await self.close()

    async def close(self) -> None:
        if self.admin_server is not None:
            await self.admin_server.drain(0.0)
        await self.finding.close()
        await self.table.close()
        await self.warmth.close()
        await self.hop.close()
        await self.sharing.close()
        await self.sources.close()
        await self.probe.close()
        await self.regime.close()

    def _replica_changed(self, replica: Replica) -> None:
        if self.hop.listening and replica.health in (Health.READY, Health.PROBING):
            self.warmth.came(replica)
        self.hop.changed()

    def _states(self) -> Sequence[hop.ReplicaState]:
        return [
            hop.ReplicaState(
                replica.id,
                replica.url,
                replica.health,
                replica.models,
                replica.kv_events,
                replica.hbm_tokens,
                replica.block_size,
                replica.weight,
                self.api_keys.get(replica.id),
            )
            for replica in self.router.replicas
        ]

    async def _recall(self, asked: hop.Place) -> None:
        """What other proxies know of the conversation, at its first attempt."""
        identity = hop.identity_of(asked.identity)
        if self.sharing.store is not None and not asked.after:
            await self.sharing.store.recall(identity, hop.unpack(asked.chain))

    def _placed(self, placement: Placement) -> None:
        if self.sharing.store is not None:
            self.sharing.store.placed(placement)

    def _told(self, told: Told) -> None:
        request = Request(told.path, told.body, told.placement.placing.identity.model)
        self.sources.told(told.placement.placing, told.salt, told.prompt_tokens, request)

    async def _show(self, asked: hop.Show) -> HopPage:
        """One of kvproxy's own pages, for all processes, or a command."""
        path, query = path_of(asked.target), asked.target.partition("?")[2]
        route = (self._pages() | self._operated()).get(path)
        if path == "/v1/models":
            page = self._models_of(asked.header.get(OPERATOR, ""))
        elif route is not None and asked.method in ("GET", "HEAD"):
            page = await route(query)
        else:
            page = await self._command(cast(Exchange, _Asked(asked)))
        return HopPage(page.status, page.content_type, page.body)

    async def _metrics(self, query: str) -> Page:
        await self.hop.ask_all("figures")
        self.metrics.load(self._figures.total())
        return await super()._metrics(query)

    async def _explain(self, query: str) -> Page:
        request_id = parse_qs(query).get("request_id", [""])[0]
        for told in await self.hop.ask_all("explain", request_id):
            if told:
                return Page(told)
        return await self.admin.explain(query)

    async def _live(self, _query: str) -> Page:
        await self.hop.ask_all("figures")
        self.metrics.load(self._figures.total())
        return self.live.page_of([told for told in await self.hop.ask_all("live") if told])

    def _operated(self) -> dict[str, Route]:
        return super()._operated() | {"/admin/explain": self._explain, "/admin/live": self._live}

    def _commands(self, *, trusted: bool) -> Command:
        made = partial(
            AdminCommands,
            self.table,
            self.live.conversations.find,
            self._reload,
            self.access,
            self.router.pools,
            trusted=trusted,
        )
        # Whoever asked a worker was let in there, and its key stayed there.
        self._command: Command = made(operator=lambda header: header.get(OPERATOR, "")).handle
        return made().handle

    async def _reload(self) -> Reloaded:
        """Here first; the other processes follow when it was taken over."""
        told = await self.reloader.reload()
        if not told.refused:
            self._reload_others()
        return told

    def _counted(self) -> Iterable[Counted]:
        desk, server = self.hop.desk, self.hop
        text = "Worker processes that are connected to the placement process"
        yield Counted("kvproxy_workers", text, {}, len(desk.workers), gauge=True)
        text = "Connections of workers that ended, and all that they held with them"
        yield Counted("kvproxy_workers_lost", text, {}, server.lost_workers)
        held = sum(len(worker.claims) for worker in desk.workers.values())
        text = "Requests of workers that wait or are placed"
        yield Counted("kvproxy_claims", text, {}, held, gauge=True)


class _Asked:
    """What a command needs of the request that came to a worker."""

    def __init__(self, asked: hop.Show) -> None:
        self.method, self.target, self.header = asked.method, asked.target, asked.header
        self.path = path_of(asked.target)
        self._body = asked.body

    async def accept(self) -> bytes:
        return self._body
