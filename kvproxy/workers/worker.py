"""A worker process: reads and relays, and asks the placement process where to."""

import asyncio
import logging
import os
import time
from functools import partial
from pathlib import Path

import orjson

from kvproxy.adapters.hop.link import HopLink, LostError
from kvproxy.adapters.hop.placer import Ears, HopPlacer
from kvproxy.adapters.http1.listener import Page, Route
from kvproxy.app import App
from kvproxy.build import build_reader
from kvproxy.core import hop
from kvproxy.core.dry_run import Reader
from kvproxy.core.spellings import Claims, SharedFrozen, SharedRepresentatives
from kvproxy.ops.logs import log_access
from kvproxy.ops.merge import hop_alone, hop_seconds, plain
from kvproxy.proxy import Agree, Placer, Record
from kvproxy.settings.model import Settings

log = logging.getLogger("kvproxy.worker")

# A worker that starts while nobody places waits so long before it goes on alone.
_PATIENCE_S = 10.0
_PUSH_S = 1.0
# "Alone" is said once in so long.
_SAY_AGAIN_S = 5.0


class WorkerApp(App):
    """`folder` is where the placement process listens."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._claims = Claims(settings.canonical.representatives_max_bytes)
        self._limited = frozenset(
            key.name for key in settings.access.keys if key.requests_per_min or key.tokens_per_min
        )
        self._said_at = 0.0
        self._hop_seconds, self._hop_alone = hop_seconds(), hop_alone()
        self._pushing: asyncio.Task[None] | None = None
        super().__init__(_without_rates(settings))
        assert isinstance(self.placer, HopPlacer)
        self.metrics.add(self._hop_seconds)
        self.metrics.add(self._hop_alone)
        self.link = self.placer.link = HopLink(
            str(folder / "hop"),
            f"{os.getpid()}-{time.time_ns()}",
            self.placer,
            time.monotonic,
            silence_s=settings.server.hop_silence_s,
            unsent_bytes_max=settings.server.hop_unsent_max_bytes,
        )

    async def start(self) -> str:
        await self._upstream.start()
        self.link.start()
        try:
            await asyncio.wait_for(self.link.became_up.wait(), _PATIENCE_S)
        except TimeoutError:
            log.error("no placement process answers: this worker serves without it")
        self._pushing = asyncio.get_running_loop().create_task(self._push())
        server = self.settings.server
        return await self.server.start(server.host, server.port, reuse_port=True)

    async def close(self) -> None:
        if self._pushing is not None:
            self._pushing.cancel()
            await asyncio.gather(self._pushing, return_exceptions=True)
        self.link.say(self.figures())
        await self.link.close()
        await self._upstream.close()

    def figures(self) -> hop.Figures:
        return hop.Figures(plain(self.metrics.rows()))

    def _reader(self, settings: Settings) -> Reader:
        kept, frozen = SharedRepresentatives(self._claims), SharedFrozen(self._claims)
        return build_reader(settings, kept, frozen)

    def _placer(self, local: Placer) -> Placer:
        ears = Ears(
            self._replica_changed,
            self._claims.new_era,
            partial(self._hop_seconds.add, ()),
            self._alone,
            self._answer,
        )
        return HopPlacer(local, self.router, time.monotonic, self._limited, ears)

    def _agree(self) -> Agree:
        return self._spelled_before

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

    def _observe(self, record: Record) -> None:
        self.explanations.add(record)
        self.metrics.observe(record)
        if self.settings.log.access:
            log_access(record)

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
        assert what == "explain"
        return self.explanations.get(about) or b""

    async def _push(self) -> None:
        while True:
            await asyncio.sleep(_PUSH_S)
            self.link.say(self.figures())

    def _routes(self) -> dict[str, Route]:
        own = super()._routes()
        elsewhere: dict[str, Route] = {path: self._elsewhere(path) for path in own}
        ready = self._ready(elsewhere["/readyz"])
        return elsewhere | {"/healthz": own["/healthz"], "/readyz": ready, "/health": ready}

    def _elsewhere(self, path: str) -> Route:
        async def show(query: str) -> Page:
            try:
                shown = await self.link.ask(lambda q: hop.Show(q, path, query))
            except LostError:
                missing = {"error": "the placement process is being started again; ask again"}
                return Page(orjson.dumps(missing), status=503)
            assert isinstance(shown, hop.Shown)
            return Page(shown.body, shown.content_type, shown.status)

        return show

    def _ready(self, elsewhere: Route) -> Route:
        """Ready without the placement process too: this worker serves then as well as it can."""

        async def show(query: str) -> Page:
            if self.draining or not self.link.up:
                return await self._readyz(query)
            return await elsewhere(query)

        return show


def _without_rates(settings: Settings) -> Settings:
    """Rates are counted in one place, and that is not here."""
    keys = tuple(
        key.model_copy(update={"requests_per_min": None, "tokens_per_min": None})
        for key in settings.access.keys
    )
    access = settings.access.model_copy(update={"keys": keys})
    return settings.model_copy(update={"access": access})
