"""Replicas by the address that Envoy is told: an IP address and a port."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from kvproxy.background import keep
from kvproxy.core.replica import Replica

_REFRESH_S = 15.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
log = logging.getLogger("kvproxy.epp")


class Addresses:
    """Names are resolved again all the time; the last answer counts while there is no new one."""

    def __init__(self, replicas: Callable[[], Sequence[Replica]]) -> None:
        self._replicas = replicas
        self._resolved: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def of(self, replica: Replica) -> str | None:
        """`ip:port`, None while its name is not resolved."""
        return literal(replica.url) or self._resolved.get(replica.url)

    def unfit(self, permitted: frozenset[str] | None) -> frozenset[str]:
        """Ids of replicas that Envoy cannot or must not send to."""
        unfit = []
        for replica in self._replicas():
            address = self.of(replica)
            if address is None or (permitted is not None and address not in permitted):
                unfit.append(replica.id)
        return frozenset(unfit)

    async def start(self) -> None:
        await self._resolve()
        self._task = keep("addresses", self._keep)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            await self._resolve()

    async def _resolve(self) -> None:
        loop = asyncio.get_running_loop()
        urls = [replica.url for replica in self._replicas() if literal(replica.url) is None]
        self._resolved = {url: old for url, old in self._resolved.items() if url in urls}
        for url in urls:
            host, port = _parts(url)
            try:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                log.warning("replica %s: its name is not resolved: %s", url, error)
                continue
            self._resolved[url] = _joined(str(found[0][4][0]), port)


def literal(url: str) -> str | None:
    host, port = _parts(url)
    try:
        return _joined(str(ip_address(host)), port)
    except ValueError:
        return None


def _parts(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def _joined(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
