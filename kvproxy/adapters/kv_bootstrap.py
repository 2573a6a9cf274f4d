"""What engines behind Mooncake's bootstrap servers are called: decode legs must name them."""

import asyncio
import logging
from collections.abc import MutableMapping

import aiohttp
import msgspec

from kvproxy.core.disagg.connectors import Peer

log = logging.getLogger("kvproxy.disagg")

_EVERY_S = 30.0
# An engine that started after kvproxy is looked for this often.
_SOON_S = 1.0
_PAGE_BYTES_MAX = 2**20
_RANKS: msgspec.json.Decoder[dict[str, dict[str, object]]] = msgspec.json.Decoder(
    dict[str, dict[str, object]]
)


class KvBootstrap:
    """Keeps `engine_id` of `peers` current, by replica id. A restarted engine has another one."""

    def __init__(self, peers: MutableMapping[str, Peer], timeout_s: float) -> None:
        self._peers = peers
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._silent: set[str] = set()

    async def start(self) -> None:
        """Returns when everybody was asked once."""
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        await asyncio.gather(*(self._ask(name) for name in list(self._peers)))
        self._tasks = [asyncio.create_task(self._watch(name)) for name in self._peers]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _watch(self, name: str) -> None:
        while True:
            await asyncio.sleep(_EVERY_S if self._peers[name].engine_id else _SOON_S)
            await self._ask(name)

    async def _ask(self, name: str) -> None:
        assert self._session is not None
        peer = self._peers[name]
        url = f"http://{peer.host}:{peer.port}/query"
        try:
            async with self._session.get(url) as response:
                page = await response.content.read(_PAGE_BYTES_MAX)
            engine_id = _engine_id(page) if response.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            engine_id = ""
            self._say(name, f"{url}: {error!r}")
        else:
            self._say(name, "" if engine_id else f"{url} names no engine")
        self._peers[name] = peer._replace(engine_id=engine_id)

    def _say(self, name: str, trouble: str) -> None:
        """Once when it begins, once when it ends."""
        if trouble and name not in self._silent:
            self._silent.add(name)
            log.warning("replica %s cannot prefill for others: %s", name, trouble)
        elif not trouble and name in self._silent:
            self._silent.remove(name)
            log.info("replica %s can prefill for others again", name)


def _engine_id(page: bytes) -> str:
    """Of the lowest data-parallel rank; "" where the page names none."""
    ranks = _RANKS.decode(page)
    if not ranks:
        return ""
    engine_id = ranks[min(ranks)].get("engine_id")
    return engine_id if isinstance(engine_id, str) else ""
