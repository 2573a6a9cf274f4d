"""Asking replicas how they are: /health, /metrics and /v1/models, each on its own beat."""

import asyncio
import logging
from collections.abc import Sequence

import aiohttp
import orjson

from kvproxy.core.replica import Health, Replica
from kvproxy.core.scrape import read_metrics

log = logging.getLogger("kvproxy.probe")

# Pages are bounded: a replica is trusted with requests, not with our memory.
_PAGE_BYTES_MAX = 8 * 2**20


class ReplicaProbe:
    """Keeps health, cache size and models of `replicas` current; `fixed_hbm` overrides sizes."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        interval_s: float,
        timeout_s: float,
        unhealthy_after: int,
        fixed_hbm: frozenset[str],
        api_keys: dict[str, str],
    ) -> None:
        self._replicas = replicas
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._unhealthy_after = unhealthy_after
        self._fixed_hbm = fixed_hbm
        self._api_keys = api_keys
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.model_cards: dict[str, list[dict[str, object]]] = {}

    async def start(self) -> None:
        """Returns when every replica was asked once, so that the first request finds them ready."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        await asyncio.gather(*(self._probe(replica) for replica in self._replicas))
        self._tasks = [asyncio.create_task(self._watch(replica)) for replica in self._replicas]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _watch(self, replica: Replica) -> None:
        while True:
            # A replica that just came up or went away is looked at again soon.
            soon = replica.health in (Health.STARTING, Health.DOWN)
            await asyncio.sleep(min(1.0, self._interval_s) if soon else self._interval_s)
            await self._probe(replica)

    async def _probe(self, replica: Replica) -> None:
        was = replica.health
        try:
            await self._get(replica, "/health")
            if replica.id not in self.model_cards or was is not Health.READY:
                await self._ask_models(replica)
            await self._ask_metrics(replica)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            if replica.probe_failed(self._unhealthy_after):
                log.warning("replica %s is down: %s: %s", replica.id, type(error).__name__, error)
            return
        replica.probe_succeeded()
        if was is not replica.health:
            log.info("replica %s is %s", replica.id, replica.health)

    async def _ask_models(self, replica: Replica) -> None:
        listing = orjson.loads(await self._get(replica, "/v1/models"))
        if not isinstance(listing, dict) or not isinstance(listing.get("data"), list):
            raise ValueError("/v1/models is not a list of models")
        cards = [card for card in listing["data"] if isinstance(card, dict) and "id" in card]
        self.model_cards[replica.id] = cards
        replica.models = tuple(str(card["id"]) for card in cards)

    async def _ask_metrics(self, replica: Replica) -> None:
        scrape = read_metrics((await self._get(replica, "/metrics")).decode(errors="replace"))
        replica.running, replica.waiting = scrape.running, scrape.waiting
        replica.load.scraped(scrape.running, scrape.waiting)
        replica.block_size = scrape.block_size or replica.block_size
        if scrape.prefix_caching is False:
            replica.fit(0)
        elif scrape.hbm_tokens is not None and replica.id not in self._fixed_hbm:
            replica.fit(scrape.hbm_tokens)

    async def _get(self, replica: Replica, path: str) -> bytes:
        assert self._session is not None
        key = self._api_keys.get(replica.id)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with self._session.get(replica.url + path, headers=headers) as response:
            if response.status != 200:
                raise ValueError(f"{path} answered {response.status}")
            page = bytearray()
            async for chunk in response.content.iter_any():
                page += chunk
                if len(page) > _PAGE_BYTES_MAX:
                    raise ValueError(f"{path} is larger than {_PAGE_BYTES_MAX} bytes")
            return bytes(page)
