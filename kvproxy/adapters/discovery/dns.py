"""Replicas by DNS names that are asked again and again: addresses (A, AAAA) or services (SRV)."""

import asyncio
import logging
import socket
from typing import Any
from urllib.parse import urlsplit

from kvproxy.core.discovered import Entries, Found, from_addresses

log = logging.getLogger("kvproxy.discovery")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# A name that has nothing for so many answers in a row has lost its replicas for good.
_EMPTY_MAX = 3

# There is no such name, or it has no address: a Service without pods may say either.
_NOTHING_THERE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

Address = tuple[str, int]


class DnsSource:
    """`url` is http://name:port, for every address of the name, or srv+http://name, for every
    target of its SRV records; https likewise."""

    def __init__(self, url: str, interval_s: float, nameservers: list[str] | None = None) -> None:
        self._srv = url.startswith("srv+")
        parts = urlsplit(url.removeprefix("srv+"))
        self._scheme = parts.scheme
        self._name = parts.hostname or ""
        self._port = parts.port or _DEFAULT_PORTS[parts.scheme]
        self._interval_s = interval_s
        self._nameservers = nameservers
        self._known: Entries | None = None
        self._empty = 0

    async def run(self, found: Found) -> None:
        while True:
            await self.look(found)
            await asyncio.sleep(self._interval_s)

    async def look(self, found: Found) -> None:
        """A resolver that fails changes nothing."""
        try:
            addresses = await (self._services() if self._srv else self._addresses())
        except OSError as error:
            log.warning("%s is not resolved: %s", self._name, error)
            return
        self._empty = 0 if addresses else self._empty + 1
        if not addresses and self._empty < _EMPTY_MAX and self._known is not None:
            return
        entries = from_addresses(self._scheme, addresses)
        if entries != self._known:
            self._known = entries
            found(entries)

    async def _addresses(self) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in _NOTHING_THERE:
                return []
            raise
        return [(str(address[0]), self._port) for *_, address in rows]

    async def _services(self) -> list[Address]:
        # An extra: only SRV records need more than the system's resolver.
        import dns.asyncresolver  # noqa: PLC0415
        import dns.exception  # noqa: PLC0415
        import dns.resolver  # noqa: PLC0415

        resolver = dns.asyncresolver.Resolver(configure=self._nameservers is None)
        if self._nameservers is not None:
            address, _, port = self._nameservers[0].rpartition(":")
            resolver.nameservers, resolver.port = [address], int(port)

        async def looked_up(name: str, kind: str) -> list[Any]:
            try:
                return list(await resolver.resolve(name, kind))
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                return []

        found: list[Address] = []
        try:
            for record in await looked_up(self._name, "SRV"):
                target = str(record.target).rstrip(".")
                rows = await looked_up(target, "A") or await looked_up(target, "AAAA")
                found += [(str(row.address), int(record.port)) for row in rows]
        except dns.exception.DNSException as error:
            raise OSError(0, str(error)) from error
        return found
