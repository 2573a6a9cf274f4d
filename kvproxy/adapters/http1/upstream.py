"""Requests to replicas: the client's head with few changes, its body as it is."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from kvproxy.adapters.http1.deadlines import Deadlines
from kvproxy.adapters.http1.heads import request_head
from kvproxy.adapters.http1.link import Link
from kvproxy.adapters.http1.pool import Origin, Pool
from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.errors import ProxyError
from kvproxy.core.header_rules import ALL_PASS, HeaderRules
from kvproxy.core.pieces import Body
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement
from kvproxy.core.upgrade import WEBSOCKET
from kvproxy.proxy import Exchange

_NO_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Seconds. `idle_timeout_s` bounds the silence before and between bytes of an answer."""

    connect_timeout_s: float
    idle_timeout_s: float
    keepalive_s: float


class _Opened:
    """A request under way. A class, for a generator costs more than all that is done here."""

    __slots__ = ("_body", "_exchange", "_head", "_link", "_pool")

    def __init__(self, pool: Pool, exchange: Exchange, head: bytes, body: Body) -> None:
        self._pool = pool
        self._exchange = exchange
        self._head = head
        self._body = body

    async def __aenter__(self) -> Link:
        exchange, fresh = self._exchange, False
        while True:
            link = self._link = self._pool.idle(fresh=fresh) or await self._pool.connect()
            try:
                link.ask(exchange.method, self._head, self._body, tunnels=exchange.tunnels)
                await link.answered()
                return link
            except BaseException as error:
                self._pool.give_back(link)
                if not (link.stale and isinstance(error, ProxyError)):
                    raise
                fresh = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._pool.give_back(self._link)


class Http1Upstream:
    """`api_keys` maps replica ids to the bearer token that replaces the client's; `headers`
    says which headers of a request go on, from the next one on where it is set anew."""

    def __init__(
        self,
        limits: UpstreamLimits,
        api_keys: Mapping[str, str],
        headers: HeaderRules = ALL_PASS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._limits = limits
        self._api_keys = api_keys
        self.headers = headers
        self._deadlines = Deadlines(min(limits.idle_timeout_s, limits.keepalive_s or 1.0))
        self.turns = Turns()
        self._pools: dict[str, Pool] = {}

    async def start(self) -> None:
        self._deadlines.start()

    async def close(self) -> None:
        self._deadlines.stop()
        for link in self._links():
            link.close()
        # The ends are noticed in the next turn of the loop.
        await asyncio.sleep(0)

    def forget(self, replica: Replica) -> None:
        """Its connections are kept no longer; requests under way end on theirs."""
        pool = self._pools.pop(replica.id, None)
        if pool is not None:
            pool.close()

    def cut(self, replica: Replica) -> None:
        """Requests under way there fail now."""
        for link in self._links():
            if link.replica == replica.id:
                link.cut()

    def abandon(self, replica: Replica) -> None:
        for link in self._links():
            if link.replica == replica.id:
                link.give_up()

    def open(self, placement: Placement, exchange: Exchange, body: Body) -> "_Opened":
        """Leaving the block before the answer's end closes the connection, so the engine stops."""
        pool = self._pool(placement.replica)
        head = self._head(placement, exchange, body, pool.origin)
        return _Opened(pool, exchange, head, body)

    def _links(self) -> list[Link]:
        return [link for link in self._deadlines.members if isinstance(link, Link)]

    def _pool(self, replica: Replica) -> Pool:
        pool = self._pools.get(replica.id)
        if pool is None:
            limits = self._limits
            pool = self._pools[replica.id] = Pool(
                replica.id,
                Origin(replica.url, self._tls),
                connect_timeout_s=limits.connect_timeout_s,
                idle_timeout_s=limits.idle_timeout_s,
                keepalive_s=limits.keepalive_s,
                deadlines=self._deadlines,
                turns=self.turns,
            )
        return pool

    def _head(self, placement: Placement, exchange: Exchange, body: Body, origin: Origin) -> bytes:
        own = b"x-request-id: %b\r\n" % exchange.request_id.encode()
        size = len(body)
        if size or exchange.method not in _NO_BODY:
            own += b"content-length: %d\r\n" % size
        more: list[tuple[bytes, bytes]] = []
        placing = placement.placing
        if placement.replica.kv_events and placing.request_id:
            # Comes back with the blocks that this request makes.
            more.append((b"x-session-id", placing.request_id.encode()))
        if placing.match.rank is not None:
            more.append((b"x-data-parallel-rank", b"%d" % placing.match.rank))
        if exchange.tunnels:
            more += WEBSOCKET
        key = self._api_keys.get(placement.replica.id)
        if key is not None:
            more.append((b"authorization", b"Bearer " + key.encode()))
        target = origin.prefix + exchange.target
        headers, rules = exchange.raw_headers, self.headers
        if rules.sifts:
            headers = rules.sifted(headers)
        method, kept = exchange.method, rules.without
        return request_head(method, target, origin.host, headers, own, more=more, kept=kept)
