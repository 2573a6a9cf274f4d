"""Joins settings, core and adapters into a running server."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from kvproxy.adapters.gate import Gate
from kvproxy.adapters.http1.listener import Command, HttpServer, Page, Route, listen
from kvproxy.adapters.kv_bootstrap import KvBootstrap
from kvproxy.adapters.local_placer import LocalPlacer
from kvproxy.adapters.replica_probe import ReplicaProbe
from kvproxy.admin.api import AdminApi, ready_page
from kvproxy.admin.commands import AdminCommands
from kvproxy.admin.live import Live
from kvproxy.admin.model_list import model_list
from kvproxy.admin.page_files import page_routes
from kvproxy.admin.regime_watch import RegimeWatch
from kvproxy.build import (
    ReplicaMaker,
    admission_limits,
    api_keys_of,
    build_access,
    build_admission,
    build_decision_log,
    build_reader,
    build_router,
    build_upstream,
    keys_of,
    name_pools,
    request_headers,
)
from kvproxy.certificates import Certificates
from kvproxy.core.access import Realm
from kvproxy.core.diagnosis import Diagnosis
from kvproxy.core.disagg.connectors import Connector
from kvproxy.core.dry_run import Reader
from kvproxy.core.identify import rules_for
from kvproxy.core.life_cycle import Health
from kvproxy.core.replica import Replica
from kvproxy.core.representatives import Representatives
from kvproxy.finding import Finding
from kvproxy.listeners import edge_of, servers
from kvproxy.ops.disagg_counters import disagg_counters
from kvproxy.ops.edge_counters import turned_away
from kvproxy.ops.explanations import Explanations
from kvproxy.ops.file_limit import raise_file_limit
from kvproxy.ops.logs import log_access, log_learned, set_level
from kvproxy.ops.metrics import CONTENT_TYPE, Metrics
from kvproxy.ops.source_counters import SourceCounters
from kvproxy.proxy import Agree, Exchange, Placer, Proxy, Record, Upstream
from kvproxy.reload import Load, Reloader
from kvproxy.replica_table import Followers, ReplicaTable
from kvproxy.settings.diff import Diff, taken_over
from kvproxy.settings.model import Settings
from kvproxy.sharing import Sharing
from kvproxy.sources import Sources
from kvproxy.tracing import build_tracing
from kvproxy.two_legs import TwoLegs
from kvproxy.warmth import Warmth

log = logging.getLogger("kvproxy")

# How often the working set is held against the caches.
_REGIME_INTERVAL_S = 60.0

# Of load balancers and supervisors, and the live view's files: its figures are guarded.
_FILES = page_routes()
_OPEN = frozenset({"/healthz", "/readyz", "/health", *_FILES})


class App:
    """One proxy process. start() listens; stop() drains. `load` reads the settings again."""

    _agree: Agree | None = None
    draining = False

    def __init__(self, settings: Settings, load: Load | None = None) -> None:
        self.settings = settings
        self.maker = maker = ReplicaMaker(settings)
        self.router = build_router(settings, maker)
        self.admission = build_admission(settings, self.router)
        self.metrics = Metrics(self.router, self.admission, time.monotonic)
        self.explanations = Explanations(settings.explain.requests_max_bytes)
        self.decisions = build_decision_log(settings, self.metrics)
        self.admin = AdminApi(self.router, time.monotonic, self.explanations)
        self.live = Live(self.router, self.admission, self.metrics, time.monotonic, time.time)
        self.regime = RegimeWatch(self.router, time.monotonic, _REGIME_INTERVAL_S)
        self.access = build_access(settings)
        self.api_keys = api_keys = api_keys_of(settings)
        self._certificates = Certificates(settings)
        tls, closed = self._certificates.upstream, self.access.closed
        self.tracing = tracing = build_tracing(settings, self.metrics)
        self._upstream = build_upstream(settings, api_keys, closed, tls, traced=bool(tracing))
        self.probe = ReplicaProbe(
            self.router.replicas,
            interval_s=settings.probe.interval_s,
            timeout_s=settings.probe.timeout_s,
            stall_s=settings.probe.stall_s,
            clock=time.monotonic,
            changed=self._replica_changed,
            fixed_hbm=frozenset(r.id for r in settings.replicas if r.hbm_tokens is not None),
            api_keys=api_keys,
            tls=tls,
        )
        self.sources = Sources(settings, self.router, api_keys, self.probe.model_path, tls)
        self.warmth = Warmth(settings, self.router, api_keys, self._replica_changed, tls)
        self.spellings = spellings = Representatives(settings.canonical.representatives_max_bytes)
        self.sharing = Sharing(settings, self.router, spellings, self.sources.announced)
        self.metrics.add(self.sharing.took)
        for counted in (self.sources.counted, self.warmth.counted, self.sharing.counted):
            self.metrics.add(SourceCounters(counted))
        self.gate = Gate(self.router, self.admission, time.monotonic)
        self.bootstrap: KvBootstrap | None = None
        self.legs = self._two_legs()
        self.local = LocalPlacer(
            self.router,
            self.gate,
            Diagnosis(self.router.ruler, settings.explain.sessions_max_bytes),
            time.monotonic,
            self.probe.ask_soon,
            peers=self.sharing.store,
        )
        self.placer = self._placer()
        self.proxy = Proxy(
            placer=self.placer,
            reader=self._reader(),
            upstream=self.legs or self._sending(),
            rules=rules_for(settings.identify.session_headers),
            clock=time.monotonic,
            observe=self._observe,
            access=self.access,
            pools=self.router.pools,
            ask_ids=self.sources.ask_ids,
            keepalive_s=settings.admission.keepalive_s,
            continues=settings.upstream.continue_streams,
            cache_hints=settings.canonical.cache_hints,
            agree=self._agree,
        )
        everybody = Followers(
            self.router, self.admission, self.gate, self.probe, self._upstream, self.sources
        )
        self.table = ReplicaTable(settings, everybody, maker, api_keys, time.monotonic)
        self.live.listing = self.table.listing
        self.finding = Finding(settings, self.table)
        self.reloader = Reloader(settings, load, self._take_over)
        self.server, self.admin_server = self._servers()

    def _placer(self) -> Placer:
        return self.local

    def _sending(self) -> Upstream:
        return self._upstream if self.tracing is None else self.tracing.sending(self._upstream)

    def _reader(self) -> Reader:
        unprinted, pools = self.sources.unprinted, self.router.pools
        return build_reader(self.settings, self.spellings, pools=pools, unprinted=unprinted)

    def _commands(self, *, trusted: bool) -> Command:
        find, reload, pools = self.live.conversations.find, self.reloader.reload, self.router.pools
        return AdminCommands(self.table, find, reload, self.access, pools, trusted=trusted).handle

    async def start(self) -> str:
        """Returns the URL that is listened on; replicas have been asked once by then."""
        raise_file_limit(self.settings.server.max_connections)
        await self._upstream.start()
        await self.probe.start()
        self.regime.start()
        await self.sources.start()
        await self.finding.start()
        if self.bootstrap is not None:
            await self.bootstrap.start()
        await self.sharing.start()
        address = self.settings.admin.address()
        if address is not None and self.admin_server is not None:
            log.info("operators: %s", await listen(self.admin_server, *address))
        server = self.settings.server
        return await listen(self.server, server.host, server.port)

    async def stop(self) -> None:
        server = self.settings.server
        told = "told to stop: %d requests under way have %g s"
        log.info(told, self.server.in_flight, server.ends_in_s)
        await self.retire()
        await self.server.drain(self.settings.server.grace_s)
        if self.admin_server is not None:
            await self.admin_server.drain(0.0)
        await self.close()

    async def retire(self) -> None:
        """Says that it is not ready, and serves on until others have had the time to hear that."""
        if not self.draining:
            self.draining = True
            await asyncio.sleep(self.settings.server.drain_delay_s)

    async def close(self) -> None:
        """Let go of the replicas."""
        if self.bootstrap is not None:
            await self.bootstrap.close()
        await self.sharing.close()
        await self.finding.close()
        await self.table.close()
        await self.warmth.close()
        await self.sources.close()
        await self.probe.close()
        await self.regime.close()
        await self._upstream.close()
        if self.decisions is not None:
            await asyncio.to_thread(self.decisions.close)
        if self.tracing is not None:
            await self.tracing.close()

    def _two_legs(self) -> TwoLegs | None:
        """What computes prompts elsewhere than they are answered, if anything does."""
        disagg = self.router.disagg
        if disagg is None:
            return None
        legs = TwoLegs(self._sending(), self.router, disagg, time.monotonic, self.gate.changed)
        self.metrics.add(SourceCounters(lambda: disagg_counters(legs.outcomes, disagg.rate.tok_s)))
        if disagg.terms.connector is Connector.MOONCAKE:
            self.bootstrap = KvBootstrap(self.router.replicas, self.settings.probe.timeout_s)
        return legs

    def _guard(self, path: str, header: Mapping[str, str]) -> None:
        """Own pages: health is for everybody, the rest for those who operate."""
        if path in _OPEN or (path == "/metrics" and self.settings.access.metrics_open):
            return
        realm = Realm.USE if path == "/v1/models" else Realm.OPERATE
        self.access.enter(header, realm, time.monotonic())

    def _replica_changed(self, replica: Replica) -> None:
        if replica.health is Health.EJECTED:
            self._upstream.abandon(replica)
        elif self.server.url and replica.health in (Health.READY, Health.PROBING):
            # At the start of this process all are new, and nothing is known that could be sent.
            self.warmth.came(replica)
        self.gate.changed()

    def _observe(self, record: Record) -> None:
        self.warmth.answered(record)
        self.explanations.add(record)
        if self.decisions is not None:
            self.decisions.add(record)
        self.metrics.observe(record)
        self.live.add(record)
        self.sources.answered(record)
        log_learned(record)
        if self.settings.log.access:
            log_access(record)

    def _take_over(self, new: Settings, found: Diff) -> list[str]:
        """Changed settings, all or, when it raises ProxyError, nothing of them."""
        running = taken_over(self.settings, new)
        take_over = self._certificates.read_again(running)
        done = self.table.settle(running.replicas, running.upstream.api_key)
        name_pools(running, self.router.pools)
        self.access.replace(keys_of(running), commands_open=running.access.engine_commands)
        traced = self.tracing is not None
        self._upstream.headers = request_headers(running, self.access.closed, traced=traced)
        self.server.edge = edge_of(running)
        if any(key.startswith("admission.") for key in found.live):
            self.admission.limit(admission_limits(running, self.router))
        set_level(running.log.level)
        take_over()
        self.settings = running
        self.gate.changed()
        return done

    def _servers(self) -> tuple[HttpServer, HttpServer | None]:
        public, own = servers(
            self.settings,
            self.proxy.handle if self.tracing is None else self.tracing.around(self.proxy),
            self._pages(),
            self._operated(),
            personal={"/v1/models": self._models},
            guard=self._guard,
            command=self._commands(trusted=bool(self.settings.admin.listen)),
            tls=self._certificates.listening,
        )
        public.turns = self._upstream.turns
        counted = turned_away()
        self.metrics.count(counted)
        public.turned_away = lambda why: counted.add((why,))
        return public, own

    def _pages(self) -> dict[str, Route]:
        return {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/health": self._readyz,
        }

    def _operated(self) -> dict[str, Route]:
        return {
            "/metrics": self._metrics,
            "/admin/regime": self.admin.regime,
            "/admin/explain": self.admin.explain,
            "/admin/live": self.live.page,
            **_FILES,
        }

    async def _healthz(self, _query: str) -> Page:
        return Page(b"ok\n", "text/plain; charset=utf-8")

    async def _readyz(self, _query: str) -> Page:
        return ready_page(self.router.replicas, draining=self.draining)

    async def _metrics(self, _query: str) -> Page:
        return Page(self.metrics.page(), CONTENT_TYPE)

    async def _models(self, exchange: Exchange) -> Page:
        return self._models_of(self.access.name_of(exchange.header))

    def _models_of(self, key: str) -> Page:
        told, pools = self.probe.model_cards, self.router.pools
        return model_list(self.router.replicas, told, pools, self.access.models_of(key))


@asynccontextmanager
async def serving(settings: Settings, load: Load | None = None) -> AsyncIterator[tuple[App, str]]:
    """A running proxy in this event loop: (app, URL)."""
    app = App(settings, load)
    url = await app.start()
    try:
        yield app, url
    finally:
        await app.stop()
