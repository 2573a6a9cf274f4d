"""`kvproxy epp`: a proxy beside which Envoy asks where to send what it carries itself."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from kvproxy import process
from kvproxy.adapters.ext_proc.addresses import Addresses
from kvproxy.adapters.ext_proc.exchange import EnvoyExchange, EnvoyUpstream
from kvproxy.adapters.ext_proc.server import Picker, PickerLimits, PickerServer
from kvproxy.adapters.http1.listener import ListenError
from kvproxy.adapters.local_placer import LocalPlacer
from kvproxy.app import App
from kvproxy.core.life_cycle import Evidence
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement
from kvproxy.proxy import Record, Upstream
from kvproxy.reload import Load
from kvproxy.settings.epp import EppSettings
from kvproxy.settings.model import Settings


@dataclass(frozen=True, slots=True)
class PickPlacer:
    """The placer of a request that Envoy carries: within what the gateway permits, and once. Other
    attempts are Envoy's."""

    local: LocalPlacer

    async def place(self, record: Record, tried: frozenset[str]) -> Placement:
        assert isinstance(record.exchange, EnvoyExchange)
        return await self.local.place(record, tried, record.exchange.barred)

    def first_token(self, placement: Placement) -> None:
        self.local.first_token(placement)

    def finish(self, record: Record, placement: Placement) -> None:
        self.local.finish(record, placement)

    def abort(self, placement: Placement) -> None:
        self.local.abort(placement)

    def seen(self, placement: Placement, evidence: Evidence, wait_s: float = 0.0) -> None:
        self.local.seen(placement, evidence, wait_s)

    async def may_retry(self, model: str, tried: frozenset[str]) -> bool:
        return False


class PickerApp(App):
    """A proxy, its listeners, and the gRPC server of the picker."""

    def __init__(self, settings: Settings, load: Load | None = None) -> None:
        super().__init__(settings, load)
        epp, limit = settings.epp, settings.server.max_body_bytes
        self._addresses = Addresses(lambda: self.router.replicas)
        upstream: Upstream = EnvoyUpstream(
            self._addresses, self._others, self.api_keys, epp.fallbacks
        )
        if self.tracing is not None:
            upstream = self.tracing.sending(upstream)
        picks = replace(
            self.proxy, placer=PickPlacer(self.local), upstream=upstream, keepalive_s=None
        )
        handle = picks.handle if self.tracing is None else self.tracing.around(picks)
        limits = PickerLimits(limit, epp.priorities(), not settings.access.keys)
        picker = Picker(handle, self._addresses, limits)
        self.picker = PickerServer(picker, self._is_ready, limit + 2**20)
        self.picker_address = ""

    async def start(self) -> str:
        url = await super().start()
        await self._addresses.start()
        epp = self.settings.epp
        host = f"[{epp.host}]" if ":" in epp.host else epp.host
        try:
            port = await self.picker.start(f"{host}:{epp.port}", _tls(epp))
        except OSError as error:
            await self.server.drain(0.0)
            where = f"{host}:{epp.port} for Envoy"
            raise ListenError(f"cannot listen on {where}: {error.strerror}") from error
        self.picker_address = f"{host}:{port}"
        sys.stdout.write(f"picker {self.picker_address}\n")
        return url

    async def stop(self) -> None:
        await self.retire()
        await self.picker.stop(self.settings.server.grace_s)
        await super().stop()

    async def close(self) -> None:
        await self.picker.stop(0.0)
        await self._addresses.close()
        await super().close()

    def _is_ready(self) -> bool:
        return not self.draining and any(replica.up for replica in self.router.replicas)

    def _others(self, placement: Placement, barred: frozenset[str]) -> list[Replica]:
        """Where else the request might go, the least busy first."""
        out = barred | {placement.replica.id}
        there = self.router.usable(placement.placing.identity.model, out)
        return sorted(there, key=lambda r: (r.load.queue_s(placement.at), r.load.in_flight))


def _tls(epp: EppSettings) -> tuple[bytes, bytes] | None:
    """Key and certificate chain. Raises OSError."""
    if not epp.tls_key_file:
        return None
    return Path(epp.tls_key_file).read_bytes(), Path(epp.tls_cert_file).read_bytes()


def run(settings: Settings, load: Load | None = None) -> int:
    """Returns when told to stop and drained."""
    if settings.disagg.connector:
        sys.stderr.write("disagg.connector: Envoy sends each request to one replica alone\n")
        return 2
    if settings.server.workers > 1:
        sys.stderr.write("server.workers: the picker is one process\n")
        return 2
    return process.run(settings, load, PickerApp)
