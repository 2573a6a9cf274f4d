"""A worker process: reads and relays, and asks the placement process where to."""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson

from kvproxy.adapters.hop.link import HopLink, LostError
from kvproxy.adapters.hop.placer import Ears, HopPlacer
from kvproxy.adapters.http1.listener import Command, HttpServer, Page, Route, listen
from kvproxy.admin.page_files import page_routes
from kvproxy.app import App
from kvproxy.background import keep
from kvproxy.build import build_reader, keys_of, name_pools, request_headers
from kvproxy.core import hop
from kvproxy.core.dry_run import Reader
from kvproxy.core.life_cycle import Health
from kvproxy.core.pieces import whole
from kvproxy.core.replica import Replica
from kvproxy.core.spellings import Claims, SharedFrozen, SharedRepresentatives
from kvproxy.listeners import edge_of
from kvproxy.ops.file_limit import raise_file_limit
from kvproxy.ops.logs import log_access, set_level
from kvproxy.ops.merge import hop_alone, hop_seconds, plain
from kvproxy.proxy import Agree, Exchange, Placer, Record
from kvproxy.reload import Load
from kvproxy.settings.diff import Diff, taken_over
from kvproxy.settings.model import Settings
from kvproxy.settings.replica import ReplicaSettings
from kvproxy.workers.placement import OPERATOR

log = logging.getLogger("kvproxy.worker")

# A worker that starts while nobody places waits so long before it goes on alone.
_PATIENCE_S = 10.0
_PUSH_S = 1.0
# "Alone" is said once in so long.
_SAY_AGAIN_S = 5.0


class WorkerApp(App):
    """`folder` is where the placement process listens."""

    def __init__(self, settings: Settings, folder: Path, load: Load | None = None) -> None:
        self._claims = Claims(settings.canonical.representatives_max_bytes)
        self._limited = set(_limited(settings))
        self._limited_read: Sequence[str] = ()
        self._said_at = 0.0
        self._agree: Agree | None = self._spelled_before
        self._hop_seconds, self._hop_alone = hop_seconds(), hop_alone()
        self._pushing: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        unlimited = _without_rates(settings)
        super().__init__(unlimited, None if load is None else self._loads(load))
        assert isinstance(self.placer, HopPlacer)
        self.metrics.count(self._hop_seconds)
        self.metrics.count(self._hop_alone)
        self.link = self.placer.link = HopLink(
            str(folder / "hop"),
            f"{os.getpid()}-{time.time_ns()}",
            self.placer,
            time.monotonic,
            silence_s=settings.server.hop_silence_s,
            unsent_bytes_max=settings.server.hop_unsent_max_bytes,
        )

    async def start(self) -> str:
        raise_file_limit(self.settings.server.max_connections)
        await self._upstream.start()
        self.link.start()
        try:
            await asyncio.wait_for(self.link.became_up.wait(), _PATIENCE_S)
        except TimeoutError:
            log.error("no placement process answers: this worker serves without it")
        self._pushing = keep("figures", self._push)
        server = self.settings.server
        return await listen(self.server, server.host, server.port, reuse_port=True)

    async def close(self) -> None:
        if self._pushing is not None:
            self._pushing.cancel()
            await asyncio.gather(self._pushing, return_exceptions=True)
        self.link.say(self.figures())
        await self.link.close()
        await self._upstream.close()
        if self.tracing is not None:
            await self.tracing.close()

    def figures(self) -> hop.Figures:
        return hop.Figures(plain(self.metrics.rows()))

    def _reader(self) -> Reader:
        kept, frozen = SharedRepresentatives(self._claims), SharedFrozen(self._claims)
        return build_reader(self.settings, kept, frozen, self.router.pools)

    def _placer(self) -> Placer:
        ears = Ears(
            self._replica_changed,
            self._claims.new_era,
            partial(self._hop_seconds.add, ()),
            self._alone,
            self._answer,
            self._replicas,
        )
        return HopPlacer(
            replace(self.local, peers=None), self.router, time.monotonic, self._limited, ears
        )

    async def _spelled_before(self) -> bool:
        made = self._claims.take()
        if not made:
            return False
        try:
            answer = await self.link.ask(lambda q: hop.Claim(q, made))
        except LostError:
            return False
        assert isinstance(answer, hop.Spelled)
        self._claims.settle(made, answer.first)
        return bool(answer.first)

    def _replica_changed(self, replica: Replica) -> None:
        if replica.health is Health.EJECTED:
            self._upstream.abandon(replica)
        self.gate.changed()

    def _observe(self, record: Record) -> None:
        self.explanations.add(record)
        self.metrics.observe(record)
        self.live.add(record)
        if self._claims.pending and self._settling is None:
            # What an answer taught: others may be sent it before this worker reads again.
            self._settling = asyncio.get_running_loop().create_task(self._settle())
        if self.settings.log.access:
            log_access(record)

    async def _settle(self) -> None:
        try:
            await self._spelled_before()
        finally:
            self._settling = None

    def _loads(self, load: Load) -> Load:
        def read() -> Settings:
            # In a thread, and perhaps refused: whom it limits counts once it is taken over.
            read = load()
            self._limited_read = _limited(read)
            return _without_rates(read)

        return read

    def _take_over(self, new: Settings, found: Diff) -> list[str]:
        """Replicas and limits are the placement process's, and come from there."""
        running = taken_over(self.settings, new)
        take_over = self._certificates.read_again(running)
        name_pools(running, self.router.pools)
        self.access.replace(keys_of(running), commands_open=running.access.engine_commands)
        self._limited.clear()
        self._limited.update(self._limited_read)
        traced = self.tracing is not None
        self._upstream.headers = request_headers(running, self.access.closed, traced=traced)
        self.server.edge = edge_of(running)
        set_level(running.log.level)
        take_over()
        self.settings = running
        return []

    def _replicas(self, states: Sequence[hop.ReplicaState]) -> None:
        """Those there are, as the placement process says."""
        there = {state.id: state for state in states}
        for replica in list(self.router.replicas):
            state = there.get(replica.id)
            if state is None or state.url != replica.url:
                self.router.remove(replica)
                self.admission.forget(replica)
                self.api_keys.pop(replica.id, None)
                if state is None:
                    self._upstream.cut(replica)
                self._upstream.forget(replica)
        known = {replica.id for replica in self.router.replicas}
        for state in states:
            if state.api_key is not None:
                self.api_keys[state.id] = state.api_key
            else:
                self.api_keys.pop(state.id, None)
            if state.id not in known:
                self.router.add(self.maker.make(ReplicaSettings(url=state.url, id=state.id)))

    def _alone(self, why: str) -> None:
        self._hop_alone.add((why,))
        now = time.monotonic()
        if now - self._said_at >= _SAY_AGAIN_S:
            self._said_at = now
            told = {
                "lost": "no placement process answers: this worker places by itself",
                "full": "the placement process is behind: this worker places by itself",
            }
            log.error(told[why])

    def _answer(self, what: str, about: str) -> bytes:
        if what == "figures":
            self.link.say(self.figures())
            return b""
        if what == "live":
            return self.live.told()
        assert what == "explain"
        return self.explanations.get(about) or b""

    async def _push(self) -> None:
        while True:
            await asyncio.sleep(_PUSH_S)
            self.link.say(self.figures())

    def _servers(self) -> tuple[HttpServer, HttpServer | None]:
        """The listener for operators alone is the placement process's."""
        # What engines say of token ids is learned in the placement process, by asking.
        self.proxy = replace(self.proxy, ask_ids=lambda record: False)
        return super()._servers()[0], None

    def _pages(self) -> dict[str, Route]:
        ready = self._ready(self._elsewhere("/readyz"))
        elsewhere = {path: self._elsewhere(path) for path in super()._pages()}
        return elsewhere | {"/healthz": self._healthz, "/readyz": ready, "/health": ready}

    def _operated(self) -> dict[str, Route]:
        # Files are the same everywhere.
        return {path: self._elsewhere(path) for path in super()._operated()} | page_routes()

    def _commands(self, *, trusted: bool) -> Command:
        async def command(exchange: Exchange) -> Page:
            header = {n: v for n, v in exchange.header.items() if n in ("host", "origin")}
            header[OPERATOR] = self.access.name_of(exchange.header)
            body = whole(await exchange.accept())
            return await self._shown(exchange.method, exchange.target, header, body)

        return command

    async def _models(self, exchange: Exchange) -> Page:
        asks = {OPERATOR: self.access.name_of(exchange.header)}
        return await self._shown("GET", "/v1/models", asks, b"")

    def _elsewhere(self, path: str) -> Route:
        async def show(query: str) -> Page:
            return await self._shown("GET", f"{path}?{query}", {}, b"")

        return show

    async def _shown(self, method: str, target: str, header: dict[str, str], body: bytes) -> Page:
        try:
            shown = await self.link.ask(lambda q: hop.Show(q, method, target, header, body))
        except LostError:
            missing = {"error": "the placement process is being started again; ask again"}
            return Page(orjson.dumps(missing), status=503)
        assert isinstance(shown, hop.Shown)
        if shown.refusal is not None:
            raise hop.error_of(shown.refusal)
        return Page(shown.body, shown.content_type, shown.status)

    def _ready(self, elsewhere: Route) -> Route:
        """Ready without the placement process too: this worker serves then as well as it can."""

        async def show(query: str) -> Page:
            if self.draining or not self.link.up:
                return await self._readyz(query)
            return await elsewhere(query)

        return show


def _limited(settings: Settings) -> list[str]:
    """Names of keys with rates."""
    keys = settings.access.keys
    return [key.name for key in keys if key.requests_per_min or key.tokens_per_min]


def _without_rates(settings: Settings) -> Settings:
    """Rates are counted in one place, and that is not here."""
    keys = tuple(
        key.model_copy(update={"requests_per_min": None, "tokens_per_min": None})
        for key in settings.access.keys
    )
    access = settings.access.model_copy(update={"keys": keys})
    return settings.model_copy(update={"access": access})
