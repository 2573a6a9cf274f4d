"""What engines behind Mooncake's bootstrap servers are called: decode legs must name them."""

import asyncio
import logging
from collections.abc import Sequence

import aiohttp
import msgspec

from kvproxy.background import keep
from kvproxy.core.replica import Replica
from kvproxy.core.spent import spent

log = logging.getLogger("kvproxy.disagg")

# An engine that started after kvproxy is looked for this often, others so many times less.
_SOON_S = 1.0
_AGAIN_EVERY = 30
_PAGE_BYTES_MAX = 2**20
_RANKS: msgspec.json.Decoder[dict[str, dict[str, object]]] = msgspec.json.Decoder(
    dict[str, dict[str, object]]
)


class KvBootstrap:
    """Keeps the `peer.engine_id` of `replicas` current, which may come and go. A restarted engine
    has another one."""

    def __init__(self, replicas: Sequence[Replica], timeout_s: float) -> None:
        self._replicas = replicas
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._silent: set[str] = set()

    async def start(self) -> None:
        """Returns when everybody was asked once."""
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        await self._ask_all(again=True)
        self._task = keep("bootstrap", self._watch)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _watch(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(_SOON_S)
            looks += 1
            await self._ask_all(again=looks % _AGAIN_EVERY == 0)

    async def _ask_all(self, *, again: bool) -> None:
        """Those that have not said, or all of them."""
        able = [replica for replica in self._replicas if replica.peer is not None]
        asked = [r for r in able if again or (r.peer and not r.peer.engine_id)]
        await asyncio.gather(*(self._ask(replica) for replica in asked))

    async def _ask(self, replica: Replica) -> None:
        peer = replica.peer
        assert self._session is not None
        assert peer is not None
        url = f"http://{peer.host}:{peer.port}/query"
        try:
            async with self._session.get(url) as response:
                page = bytearray()
                async for part in response.content.iter_any():
                    page += part
                    if len(page) > _PAGE_BYTES_MAX:
                        break
            engine_id = _engine_id(page) if response.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
            engine_id = ""
            self._say(replica.id, f"{url}: {error!r}")
            spent(error)
        else:
            self._say(replica.id, "" if engine_id else f"{url} names no engine")
        replica.peer = peer._replace(engine_id=engine_id)

    def _say(self, name: str, trouble: str) -> None:
        """Once when it begins, once when it ends."""
        if trouble and name not in self._silent:
            self._silent.add(name)
            log.warning("replica %s cannot prefill for others: %s", name, trouble)
        elif not trouble and name in self._silent:
            self._silent.remove(name)
            log.info("replica %s can prefill for others again", name)


def _engine_id(page: bytearray) -> str:
    """Of the lowest data-parallel rank; "" where the page names none."""
    ranks = _RANKS.decode(page)
    if not ranks:
        return ""
    engine_id = ranks[min(ranks)].get("engine_id")
    return engine_id if isinstance(engine_id, str) else ""
