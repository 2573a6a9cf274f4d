"""Finding out which replicas publish KV events, and where: vLLM's and SGLang's own pages tell."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from kvproxy.background import keep
from kvproxy.core.kv_sources import KvSource, SourceError, read_sglang, read_vllm
from kvproxy.core.life_cycle import Health
from kvproxy.core.replica import Replica
from kvproxy.core.spent import spent

log = logging.getLogger("kvproxy.events")

_PAGE_BYTES_MAX = 2**20
# Until a replica was asked once, and while it is not up, it is looked at this often.
_SOON_S = 1.0
_PAGES = (("/kv_event_sources", read_vllm), ("/server_info", read_sglang))

Follow = Callable[[KvSource, Replica], None]
Forget = Callable[[KvSource], Awaitable[None]]


class KvDiscovery:
    """Tells `follow` and `forget` about sources as they come and go. `fixed` sources are followed
    as they are; `expected`: replicas without events are worth a warning."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        follow: Follow,
        forget: Forget,
        *,
        fixed: Mapping[str, Sequence[KvSource]],
        interval_s: float,
        timeout_s: float,
        expected: bool,
        api_keys: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._first = tuple(replicas)
        self._follow = follow
        self._forget = forget
        self._fixed = dict(fixed)
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._expected = expected
        self._api_keys = api_keys
        self._session: aiohttp.ClientSession | None = None
        self._tasks: dict[Replica, asyncio.Task[None]] = {}
        self._said: dict[str, str] = {}
        self._known: dict[str, list[KvSource]] = {}

    def through(self, follow: Follow, forget: Forget) -> None:
        """Somebody else is told about sources from now on; before start()."""
        assert not self._tasks
        self._follow, self._forget = follow, forget

    async def start(self) -> None:
        """Returns when every replica that is up was asked once."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            connector=aiohttp.TCPConnector(ssl=self._tls or True),
        )
        await asyncio.gather(*(self._look(replica) for replica in self._first))
        for replica in self._first:
            self._tasks[replica] = self._begin(replica)

    def add(self, replica: Replica, fixed: Sequence[KvSource]) -> None:
        """One more from now on; `fixed` where its settings say what to listen to."""
        if fixed:
            self._fixed[replica.id] = fixed
        self._tasks[replica] = self._begin(replica)

    def remove(self, replica: Replica) -> Coroutine[Any, Any, None]:
        """From now on it is asked no more, and another may come under its name; its streams are
        closed once what is returned was awaited."""
        task = self._tasks.pop(replica, None)
        if task is not None:
            task.cancel()
        self._fixed.pop(replica.id, None)
        self._said.pop(replica.id, None)
        return self._end(task, self._known.pop(replica.id, []))

    async def _end(self, task: "asyncio.Task[None] | None", sources: Sequence[KvSource]) -> None:
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
        for source in sources:
            await self._forget(source)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _begin(self, replica: Replica) -> asyncio.Task[None]:
        return keep("event_discovery", partial(self._watch, replica), replica.id)

    async def _watch(self, replica: Replica) -> None:
        while True:
            asked = replica.id in self._known and replica.health is Health.READY
            await asyncio.sleep(self._interval_s if asked else min(_SOON_S, self._interval_s))
            await self._look(replica)

    async def _look(self, replica: Replica) -> None:
        if replica.id in self._fixed:
            self._known[replica.id] = list(self._fixed[replica.id])
            for source in self._fixed[replica.id]:
                self._follow(source, replica)
            return
        if replica.health is not Health.READY:
            return
        try:
            sources = await self._ask(replica)
        except SourceError as error:
            self._say(replica, f"its KV events cannot be heard: {error}")
            sources = []
        except (TimeoutError, aiohttp.ClientError) as error:
            self._say(replica, f"it does not tell about KV events: {type(error).__name__}")
            spent(error)
            return
        if not sources and self._expected:
            self._say(
                replica,
                "it publishes no KV events; start vLLM with --kv-events-config "
                '\'{"enable_kv_cache_events": true, "endpoint": "tcp://*:5557"}\', or set '
                "events.enabled to auto",
            )
        for gone in set(self._known.get(replica.id, [])) - set(sources):
            await self._forget(gone)
        self._known[replica.id] = sources
        replica.kv_events = replica.kv_events and bool(sources)
        for source in sources:
            self._follow(source, replica)

    async def _ask(self, replica: Replica) -> list[KvSource]:
        host = urlsplit(replica.url).hostname or ""
        host = f"[{host}]" if ":" in host else host
        for path, read in _PAGES:
            page = await self._get(replica, path)
            if page is not None:
                # Who has the page is that engine, also when it names nothing: a vLLM in
                # development mode runs pip and more for every look at its /server_info.
                return read(replica.id, host, page)
        return []

    async def _get(self, replica: Replica, path: str) -> bytes | None:
        """The page, None where there is none."""
        assert self._session is not None
        key = self._api_keys.get(replica.id)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with self._session.get(replica.url + path, headers=headers) as response:
            if response.status != 200:
                return None
            page = bytearray()
            async for part in response.content.iter_any():
                page += part
                if len(page) > _PAGE_BYTES_MAX:
                    return None
            return bytes(page)

    def _say(self, replica: Replica, text: str) -> None:
        """Once, until it is another text."""
        if self._said.get(replica.id) != text:
            self._said[replica.id] = text
            log.warning("replica %s: %s", replica.id, text)
