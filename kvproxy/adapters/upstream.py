"""Requests to replicas, on one aiohttp session without a connection cap."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kvproxy.core.errors import ProxyError
from kvproxy.core.headers import end_to_end
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement
from kvproxy.proxy import Exchange, Headers

# Replaced by us, or ours alone.
_NOT_FORWARDED = frozenset(
    {"content-length", "expect", "host", "x-kvproxy-decision", "x-request-id"}
)
_NO_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Seconds. `idle_timeout_s` bounds the silence before and between bytes of an answer."""

    connect_timeout_s: float
    idle_timeout_s: float
    keepalive_s: float


class AiohttpAnswer:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Headers = response.raw_headers

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except TimeoutError as error:
            raise ProxyError("upstream_timeout", "The replica fell silent.") from error
        except aiohttp.ClientError as error:
            raise ProxyError("upstream_broke", "The replica broke off its answer.") from error


class AiohttpUpstream:
    """`api_keys` maps replica ids to the bearer token that replaces the client's."""

    def __init__(self, limits: UpstreamLimits, api_keys: dict[str, str]) -> None:
        self._limits = limits
        self._api_keys = api_keys
        self._session: aiohttp.ClientSession | None = None
        self._waiting: dict[str, set[asyncio.Timeout]] = {}

    def abandon(self, replica: Replica) -> None:
        now = asyncio.get_running_loop().time()
        for patience in list(self._waiting.get(replica.id, ())):
            patience.reschedule(now)

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=self._limits.keepalive_s),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self._limits.connect_timeout_s,
                sock_read=self._limits.idle_timeout_s,
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def open(
        self, placement: Placement, exchange: Exchange, body: bytes
    ) -> AsyncIterator[AiohttpAnswer]:
        """Leaving the block before the answer's end closes the connection, so the engine stops."""
        assert self._session is not None
        replica = placement.replica
        patience = asyncio.timeout(None)
        try:
            async with patience:
                waiting = self._waiting.setdefault(replica.id, set())
                waiting.add(patience)
                try:
                    response = await self._session.request(
                        exchange.method,
                        URL(replica.url + exchange.target, encoded=True),
                        data=body if body or exchange.method not in _NO_BODY else None,
                        headers=self._headers(placement, exchange),
                        allow_redirects=False,
                    )
                finally:
                    waiting.discard(patience)
        except TimeoutError as error:
            if patience.expired():
                lost = f"Replica {replica.id} was given up before it answered."
                raise ProxyError("upstream_lost", lost, retry_after_s=1.0) from error
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                raise _unreachable(replica.id, error) from error
            silent = f"Replica {replica.id} sent nothing for {self._limits.idle_timeout_s:g} s."
            raise ProxyError("upstream_timeout", silent) from error
        except aiohttp.ClientConnectorError as error:
            raise _unreachable(replica.id, error) from error
        except aiohttp.ClientError as error:
            lost = f"Replica {replica.id} broke off before it answered ({type(error).__name__})."
            raise ProxyError("upstream_lost", lost, retry_after_s=1.0) from error
        try:
            yield AiohttpAnswer(response)
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    def _headers(self, placement: Placement, exchange: Exchange) -> CIMultiDict[str]:
        replica, placing = placement.replica.id, placement.placing
        headers = CIMultiDict(
            (name, value)
            for name, value in end_to_end(exchange.raw_headers)
            if name.lower() not in _NOT_FORWARDED
        )
        headers["x-request-id"] = exchange.request_id
        if placement.replica.kv_events and placing.request_id:
            # Comes back with the blocks that this request makes.
            headers["x-session-id"] = placing.request_id
        if placing.match.rank is not None:
            headers["x-data-parallel-rank"] = str(placing.match.rank)
        if replica in self._api_keys:
            headers["authorization"] = f"Bearer {self._api_keys[replica]}"
        return headers


def _unreachable(replica: str, error: Exception) -> ProxyError:
    kind = type(error).__name__
    return ProxyError(
        "upstream_unreachable", f"Replica {replica} did not answer ({kind}).", retry_after_s=1.0
    )
