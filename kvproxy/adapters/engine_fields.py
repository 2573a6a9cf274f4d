"""Which replicas understand a field that we would add to requests: their OpenAPI page declares it.

An engine that does not know a field may ignore it or refuse the request, so nothing is sent on
trust. A replica is asked once, and again after it was away or has refused the field all the same.
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec

from kvproxy.background import keep
from kvproxy.core.life_cycle import Health
from kvproxy.core.replica import Replica
from kvproxy.core.spent import spent

log = logging.getLogger("kvproxy.tokens")

_PAGE_BYTES_MAX = 4 * 2**20


class EngineFields:
    """start() before, close() after. knows() is what requests call."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        field: str,
        paths: Sequence[str],
        *,
        interval_s: float,
        timeout_s: float,
        api_keys: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._replicas = replicas
        self._field = field
        self._paths = paths
        self._interval_s = interval_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._api_keys = api_keys
        self._known: dict[str, frozenset[str]] = {}
        self._refused: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when every replica that is up was asked once."""
        async with self._session() as session:
            await self._look(session)
        self._task = keep("engine_fields", self._watch)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def knows(self, replica: Replica, path: str) -> bool:
        return path in self._known.get(replica.id, ())

    def refused(self, replica: Replica) -> None:
        """It answered such a request with an error of the client's; never again is it asked."""
        if replica.id not in self._refused:
            self._refused.add(replica.id)
            self._known[replica.id] = frozenset()
            log.warning("replica %s refused a request with %s", replica.id, self._field)

    def forget(self, replica: Replica) -> None:
        """It is gone; another one may come under its name."""
        self._known.pop(replica.id, None)
        self._refused.discard(replica.id)

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._tls or True)
        return aiohttp.ClientSession(timeout=self._timeout, connector=connector)

    async def _watch(self) -> None:
        async with self._session() as session:
            while True:
                await asyncio.sleep(self._interval_s)
                await self._look(session)

    async def _look(self, session: aiohttp.ClientSession) -> None:
        for replica in self._replicas:
            if replica.health is not Health.READY:
                # What comes back may be another version.
                self._known.pop(replica.id, None)
            elif replica.id not in self._known:
                await self._ask(session, replica)

    async def _ask(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        key = self._api_keys.get(replica.id)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            async with session.get(f"{replica.url}/openapi.json", headers=headers) as response:
                page = bytearray()
                async for chunk in response.content.iter_any():
                    page += chunk
                    if len(page) > _PAGE_BYTES_MAX or response.status != 200:
                        page.clear()
                        break
        except (aiohttp.ClientError, TimeoutError) as error:
            spent(error)
            return
        known = declaring(bytes(page), self._field, self._paths)
        self._known[replica.id] = frozenset() if replica.id in self._refused else known


class _Schema(msgspec.Struct):
    properties: dict[str, msgspec.Raw] = {}


class _Reference(msgspec.Struct):
    ref: str = msgspec.field(default="", name="$ref")


class _Media(msgspec.Struct):
    schema: _Reference = msgspec.field(default_factory=_Reference)


class _Body(msgspec.Struct):
    content: dict[str, _Media] = {}


class _Operation(msgspec.Struct):
    body: _Body = msgspec.field(default_factory=_Body, name="requestBody")


class _Path(msgspec.Struct):
    post: _Operation = msgspec.field(default_factory=_Operation)


class _Components(msgspec.Struct):
    schemas: dict[str, msgspec.Raw] = {}


class _Page(msgspec.Struct):
    paths: dict[str, msgspec.Raw] = {}
    components: _Components = msgspec.field(default_factory=_Components)


def declaring(page: bytes, field: str, paths: Sequence[str]) -> frozenset[str]:
    """Those of `paths` whose JSON body has `field` declared; none on a page of another form."""
    found = set()
    try:
        read = msgspec.json.decode(page, type=_Page)
        for path in paths:
            raw = read.paths.get(path)
            if raw is None:
                continue
            media = msgspec.json.decode(raw, type=_Path).post.body.content
            name = media.get("application/json", _Media()).schema.ref.rpartition("/")[2]
            schema = read.components.schemas.get(name, msgspec.Raw(b"{}"))
            if field in msgspec.json.decode(schema, type=_Schema).properties:
                found.add(path)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return frozenset()
    return frozenset(found)
