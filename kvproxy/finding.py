"""Joins what discovery finds with the table of replicas."""

import asyncio
import contextlib
import logging
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from kvproxy.background import keep
from kvproxy.core.discovered import Entries, Found
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.replica_table import ReplicaTable
from kvproxy.settings.discovery import DiscoverySettings
from kvproxy.settings.errors import problems_of, without_credentials
from kvproxy.settings.model import Settings
from kvproxy.settings.replica import ReplicaSettings

log = logging.getLogger("kvproxy.discovery")
_REPLICAS_MAX = 1024
# How long start() waits for sources to say something.
_FIRST_S = 5.0
_ANSWERS_S, _LOOK_S = 2.0, 0.02


class Source(Protocol):
    async def run(self, found: Found) -> None:
        """For ever."""


class Finding:
    """Each source settles its own replicas in the table, under its own name."""

    def __init__(self, settings: Settings, table: ReplicaTable) -> None:
        self._default_key = settings.upstream.api_key
        self._table = table
        self._sources = _sources(settings.discovery)
        self._tasks: list[asyncio.Task[None]] = []
        self.found = {name: -1 for name, _ in self._sources}
        self._all_found = asyncio.Event()

    async def start(self) -> None:
        """Returns when every source has said something, or soon."""
        for name, source in self._sources:
            settle = partial(self._settle, name)
            self._tasks.append(keep("discovery", partial(source.run, settle), name))
        if self._tasks:
            try:
                async with asyncio.timeout(_FIRST_S):
                    await self._all_found.wait()
            except TimeoutError:
                silent = [name for name, count in self.found.items() if count < 0]
                log.error("nothing was heard from %s yet", ", ".join(silent))
            await self._asked()

    async def _asked(self) -> None:
        """Returns when every replica has answered once, so that the first request finds them; some
        take minutes to load, and are not waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWERS_S):
                # The core, whose state this is, knows no events.
                while self._starting():  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)

    def _starting(self) -> bool:
        return any(each["health"] == Health.STARTING for each in self._table.listing())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _settle(self, name: str, entries: Entries) -> None:
        """What is wrong with one entry leaves that one out, and with none of the others."""
        wanted: dict[str, ReplicaSettings] = {}
        if len(entries) > _REPLICAS_MAX:
            said = "%s: %d replicas are too many; the first %d are used"
            log.error(said, name, len(entries), _REPLICAS_MAX)
        for entry in entries[:_REPLICAS_MAX]:
            try:
                replica = ReplicaSettings.model_validate(entry)
                self._table.check(replica, name)
                wanted[replica.id] = replica
            except ProxyError as error:
                log.error("%s: %s is left out: %s", name, _named(entry), error)
            except ValidationError as error:
                said = "; ".join(map(str, problems_of(error, ReplicaSettings, {})))
                log.error("%s: %s is no replica: %s", name, _named(entry), said)
        try:
            done = self._table.settle(wanted.values(), self._default_key, name)
            log.info("%s: %d replicas; %s", name, len(wanted), ", ".join(done) or "as before")
        except ProxyError as error:
            log.error("%s: %s", name, error)
        self.found[name] = len(wanted)
        if all(count >= 0 for count in self.found.values()):
            self._all_found.set()


def _named(entry: object) -> str:
    """An entry in words that hold no key of its replica."""
    named = (entry.get("id") or entry.get("url")) if isinstance(entry, dict) else entry
    return without_credentials(str(named or "an entry without a URL"))


def _sources(asked: DiscoverySettings) -> list[tuple[str, Source]]:
    found: list[tuple[str, Source]] = []
    if asked.file:
        file = import_module("kvproxy.adapters.discovery.file")
        found.append(("file", file.FileSource(Path(asked.file), asked.interval_s)))
    for url in asked.dns:
        if url.startswith("srv+"):
            _needs("dns.asyncresolver", "dns")
        dns = import_module("kvproxy.adapters.discovery.dns")
        found.append((f"dns {url}", dns.DnsSource(url, asked.interval_s)))
    if asked.kubernetes_service:
        _needs("kubernetes_asyncio", "kubernetes")
        kubernetes = import_module("kvproxy.adapters.discovery.kubernetes")
        source = kubernetes.KubernetesSource(
            asked.kubernetes_service,
            port_name=asked.kubernetes_port,
            selector=asked.kubernetes_selector,
            annotations=asked.kubernetes_annotations,
            api_url=asked.kubernetes_api,
        )
        found.append(("kubernetes", source))
    return found


def _needs(module: str, extra: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError:
        raise SystemExit(f"discovery needs more: pip install 'kvproxy[{extra}]'") from None
