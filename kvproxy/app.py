"""Joins settings, core and adapters into a running server."""

import asyncio
import math
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import uvloop
from aiohttp import web

from kvproxy.adapters.gate import Gate
from kvproxy.adapters.http_server import HttpServer, Limits, Route
from kvproxy.adapters.kv_discovery import KvDiscovery
from kvproxy.adapters.kv_event_feed import FeedLimits, KvEventFeed
from kvproxy.adapters.lmcache import LmcacheDirectory, LmcacheLimits
from kvproxy.adapters.replica_probe import ReplicaProbe
from kvproxy.adapters.upstream import AiohttpUpstream, UpstreamLimits
from kvproxy.admin.api import AdminApi
from kvproxy.admin.regime_watch import RegimeWatch
from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.affinity import Affinity
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.diagnosis import Diagnosis
from kvproxy.core.dry_run import DryReader, Reader
from kvproxy.core.holdings import Holdings
from kvproxy.core.identify import rules_for
from kvproxy.core.kv_sources import KvSource
from kvproxy.core.learn import PrefillRate
from kvproxy.core.life_cycle import Health, LifeCycle, LifeLimits
from kvproxy.core.policies import PolicyName
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.replica import Replica
from kvproxy.core.representatives import Representatives
from kvproxy.core.router import Router
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Weights
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.turn import TurnReader
from kvproxy.core.volatile import BILLING_LINE, Action, Rule, Volatile, Where
from kvproxy.ops.explanations import Explanations
from kvproxy.ops.logs import log_access, log_learned, set_up
from kvproxy.ops.metrics import CONTENT_TYPE, Metrics
from kvproxy.proxy import Proxy, Record
from kvproxy.settings.model import Settings

# How often the working set is held against the caches.
_REGIME_INTERVAL_S = 60.0


class App:
    """One proxy process. start() listens; stop() drains."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.router = build_router(settings)
        self.admission = build_admission(settings, self.router)
        self.metrics = Metrics(self.router, self.admission, time.monotonic)
        self.admin = AdminApi(self.router, time.monotonic)
        self.regime = RegimeWatch(self.router, time.monotonic, _REGIME_INTERVAL_S)
        self.explanations = Explanations(settings.explain.requests_max_bytes)
        self.draining = False
        api_keys = _api_keys(settings)
        self._upstream = AiohttpUpstream(
            UpstreamLimits(
                settings.upstream.connect_timeout_s,
                settings.upstream.idle_timeout_s,
                settings.upstream.keepalive_s,
            ),
            api_keys,
        )
        self.probe = ReplicaProbe(
            self.router.replicas,
            interval_s=settings.probe.interval_s,
            timeout_s=settings.probe.timeout_s,
            stall_s=settings.probe.stall_s,
            clock=time.monotonic,
            changed=self._replica_changed,
            fixed_hbm=frozenset(r.id for r in settings.replicas if r.hbm_tokens is not None),
            api_keys=api_keys,
        )
        self.lmcache = build_lmcache(settings)
        self.feed, self.discovery = build_events(settings, self.router)
        self.gate = Gate(self.router, self.admission, time.monotonic)
        self.proxy = Proxy(
            router=self.router,
            gate=self.gate,
            reader=build_reader(settings),
            diagnosis=Diagnosis(self.router.ruler, settings.explain.sessions_max_bytes),
            upstream=self._upstream,
            rules=rules_for(settings.identify.session_headers),
            clock=time.monotonic,
            observe=self._observe,
            doubt=self.probe.ask_soon,
        )
        server = settings.server
        limits = Limits(
            server.max_body_bytes,
            server.max_header_bytes,
            server.body_timeout_s,
            server.keepalive_timeout_s,
            server.max_connections,
        )
        self.server = HttpServer(self.proxy.handle, self._routes(), limits)

    async def start(self) -> str:
        """Returns the URL that is listened on; replicas have been asked once by then."""
        await self._upstream.start()
        await self.probe.start()
        self.regime.start()
        if self.settings.events.enabled != "off":
            await self.discovery.start()
        if self.lmcache is not None:
            await self.lmcache.start()
        server = self.settings.server
        return await self.server.start(server.host, server.port)

    async def stop(self) -> None:
        self.draining = True
        await self.server.drain(self.settings.server.grace_s)
        await self.close()

    async def close(self) -> None:
        """Let go of the replicas."""
        if self.lmcache is not None:
            await self.lmcache.close()
        await self.discovery.close()
        await self.feed.close()
        await self.probe.close()
        await self.regime.close()
        await self._upstream.close()

    def _replica_changed(self, replica: Replica) -> None:
        if replica.health is Health.EJECTED:
            self._upstream.abandon(replica)
        self.gate.changed()

    def _observe(self, record: Record) -> None:
        self.explanations.add(record)
        self.metrics.observe(record)
        log_learned(record)
        if self.settings.log.access:
            log_access(record)

    def _routes(self) -> dict[str, Route]:
        return {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/health": self._readyz,
            "/metrics": self._metrics,
            "/v1/models": self._models,
            "/admin/regime": self.admin.regime,
        }

    async def _healthz(self) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self) -> web.Response:
        ready = sum(replica.up for replica in self.router.replicas)
        body = {
            "ready": bool(ready) and not self.draining,
            "draining": self.draining,
            "replicas": {replica.id: replica.health for replica in self.router.replicas},
        }
        status = 200 if body["ready"] else 503
        return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")

    async def _metrics(self) -> web.Response:
        return web.Response(body=self.metrics.page(), headers={"content-type": CONTENT_TYPE})

    async def _models(self) -> web.Response:
        """Models of all ready replicas; of a model that several serve, one card."""
        cards = {
            str(card["id"]): card
            for replica in self.router.replicas
            if replica.up
            for card in self.probe.model_cards.get(replica.id, [])
        }
        body = orjson.dumps({"object": "list", "data": list(cards.values())})
        return web.Response(body=body, content_type="application/json")


def build_router(settings: Settings) -> Router:
    limits = LifeLimits(settings.probe.unhealthy_after, settings.probe.cool_max_s)
    replicas = [
        Replica(
            id=replica.id,
            url=replica.url,
            hbm_tokens=replica.hbm_tokens or settings.index.hbm_tokens_default,
            rate=PrefillRate(settings.score.prefill_tok_s, settings.score.base_s),
            weight=replica.weight,
            life=LifeCycle(limits),
        )
        for replica in settings.replicas
    ]
    ruler = Ruler(settings.index.anchors_max)
    holdings = Holdings(
        ruler,
        PrefixIndex(settings.events.index_max_bytes),
        TokenChains(settings.events.anchors_max_bytes),
    )
    score = settings.score
    return Router(
        replicas,
        PolicyName(settings.policy.name),
        affinity=Affinity(settings.identify.max_sessions, settings.identify.idle_s),
        ruler=ruler,
        weights=Weights(
            move_margin_s=score.move_margin_s,
            dram_tok_s=score.dram_tok_s,
            disk_tok_s=score.disk_tok_s,
        ),
        holdings=holdings,
        seed=settings.policy.seed,
    )


def build_events(settings: Settings, router: Router) -> tuple[KvEventFeed, KvDiscovery]:
    events = settings.events
    feed = KvEventFeed(router.holdings, FeedLimits(events.idle_s, events.replay_timeout_s))
    fixed = {
        r.id: KvSource(r.id, 0, r.events_endpoint, r.events_replay_endpoint, r.events_topic)
        for r in settings.replicas
        if r.events_endpoint
    }
    discovery = KvDiscovery(
        router.replicas,
        feed.follow,
        feed.forget,
        fixed=fixed,
        interval_s=events.discover_s,
        timeout_s=settings.probe.timeout_s,
        expected=events.enabled == "on",
        api_keys=_api_keys(settings),
    )
    return feed, discovery


def build_admission(settings: Settings, router: Router) -> Admission:
    """Only kvproxy's own policy holds work back: the others are compared as others run them."""
    limits = settings.admission
    holds_back = router.policy is PolicyName.SECONDS
    return Admission(
        router,
        AdmissionLimits(
            AllowanceLimits(
                limits.large_prefill_share, limits.large_prefill_burst_s, limits.small_prefill_s
            ),
            backlog_s=limits.backlog_s if holds_back else math.inf,
            ageing_s=limits.ageing_s,
            wait_max_s=limits.wait_max_s,
            queue_max=limits.queue_max,
            ttft_slo_s=math.inf if limits.ttft_slo_s is None else limits.ttft_slo_s,
        ),
    )


def build_reader(settings: Settings) -> Reader:
    asked = settings.canonical
    kept = Representatives(asked.representatives_max_bytes)
    patterns = {Action.FREEZE: asked.freeze, Action.DROP: asked.drop}
    rules = [
        Rule(f"{action}_{index}", where, re.compile(pattern), action)
        for action, listed in patterns.items()
        for index, pattern in enumerate(listed)
        for where in Where
    ]
    if asked.billing_line:
        rules.insert(0, BILLING_LINE)
    block_bytes, points = settings.blocks.block_bytes, settings.identify.max_sessions
    plain = TurnReader(Canonicaliser(Order.PRESERVE, Representatives(0)), block_bytes, points)
    if not asked.enabled:
        return plain
    acting = Canonicaliser(Order(asked.order), kept, Volatile(rules))
    reader = TurnReader(acting, block_bytes, points)
    return DryReader(plain, reader) if asked.dry_run else reader


def build_lmcache(settings: Settings) -> LmcacheDirectory | None:
    lmcache = settings.lmcache
    if not lmcache.coordinator_url and not lmcache.controller_url:
        return None
    limits = LmcacheLimits(
        lmcache.chunk_tokens,
        lmcache.dram_tokens,
        lmcache.world_size,
        lmcache.interval_s,
        lmcache.timeout_s,
    )
    return LmcacheDirectory(lmcache.coordinator_url, lmcache.controller_url, limits)


def _api_keys(settings: Settings) -> dict[str, str]:
    keys = {}
    for replica in settings.replicas:
        secret = replica.api_key or settings.upstream.api_key
        if secret is not None:
            keys[replica.id] = secret.get_secret_value()
    return keys


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[App, str]]:
    """A running proxy in this event loop: (app, URL)."""
    app = App(settings)
    url = await app.start()
    try:
        yield app, url
    finally:
        await app.stop()


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    app = App(settings)
    try:
        url = await app.start()
    except OSError as error:
        await app.close()
        server = settings.server
        sys.stderr.write(f"cannot listen on {server.host}:{server.port}: {error.strerror}\n")
        return 1
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
    await stop.wait()
    # A second signal means now: the default action ends the process.
    loop.remove_signal_handler(signal.SIGINT)
    loop.remove_signal_handler(signal.SIGTERM)
    await app.stop()
    return 0


def run(settings: Settings) -> int:
    """`kvproxy serve`: returns when told to stop and drained."""
    set_up(settings.log.level, settings.log.format)
    return uvloop.run(_serve(settings))
