"""Asking replicas how they are: /health, /metrics and /v1/models, each on its own beat."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import aiohttp
import orjson

from kvproxy.background import keep
from kvproxy.core.life_cycle import Evidence, Health
from kvproxy.core.replica import Replica
from kvproxy.core.scrape import read_metrics
from kvproxy.core.spent import spent

log = logging.getLogger("kvproxy.probe")

# Pages are bounded: a replica is trusted with requests, not with our memory.
_PAGE_BYTES_MAX = 8 * 2**20


_WHY = {
    Evidence.STALLED: ": it holds requests and makes no progress, though /health is fine",
    Evidence.SLEEPS: ": the engine sleeps; POST /wake_up wakes it",
}


class ReplicaProbe:
    """Keeps health, cache size and models of `replicas` current; `fixed_hbm` overrides sizes.

    `changed` is called when a replica's state did. `trouble`: in words, by replica id, what the
    last probe of those found that were not well."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        interval_s: float,
        timeout_s: float,
        stall_s: float,
        clock: Callable[[], float],
        changed: Callable[[Replica], None],
        fixed_hbm: Iterable[str],
        api_keys: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._first = tuple(replicas)
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._stall_s = stall_s
        self._clock = clock
        self._changed = changed
        self._soon: dict[Replica, asyncio.Event] = {}
        self._fixed_hbm = set(fixed_hbm)
        self._api_keys = api_keys
        self._session: aiohttp.ClientSession | None = None
        self._tasks: dict[Replica, asyncio.Task[None]] = {}
        self._missing: set[Replica] = set()
        self.model_cards: dict[str, list[dict[str, object]]] = {}
        self.trouble: dict[str, str] = {}

    def model_path(self, replica: Replica, model: str) -> str:
        """What the engine loaded under the name `model`; the name itself where it does not say."""
        for card in self.model_cards.get(replica.id, []):
            if card["id"] == model:
                return str(card.get("root") or model)
        return model

    async def start(self) -> None:
        """Returns when every replica was asked once, so that the first request finds them ready."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            # Each is asked one thing at a time; who waited for others that hang would seem to hang.
            connector=aiohttp.TCPConnector(ssl=self._tls or True, limit=0),
        )
        await asyncio.gather(*(self._probe(replica) for replica in self._first))
        for replica in self._first:
            self._begin(replica)

    def add(self, replica: Replica, *, fixed_hbm: bool = False) -> None:
        """One more from now on; it is asked at once."""
        self._fixed_hbm.discard(replica.id)
        if fixed_hbm:
            self._fixed_hbm.add(replica.id)
        self._begin(replica).set()

    def forget(self, replica: Replica) -> None:
        """It is asked no more."""
        self._tasks.pop(replica).cancel()
        self._missing.discard(replica)
        del self._soon[replica]
        if not any(other.id == replica.id for other in self._soon):
            self.model_cards.pop(replica.id, None)
            self._fixed_hbm.discard(replica.id)
            self.trouble.pop(replica.id, None)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def ask_soon(self, replica: Replica) -> None:
        """A request failed there: whether it is the replica's fault is worth knowing at once."""
        # One that was removed may still have requests.
        if replica in self._soon:
            self._soon[replica].set()

    def _begin(self, replica: Replica) -> asyncio.Event:
        self._soon[replica] = soon = asyncio.Event()
        self._tasks[replica] = keep("probe", partial(self._watch, replica, soon), replica.id)
        return soon

    async def _watch(self, replica: Replica, soon: asyncio.Event) -> None:
        while True:
            # A replica that is not well is looked at again sooner.
            well = replica.health in (Health.READY, Health.DRAINING)
            wait_s = self._interval_s if well else min(1.0, self._interval_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(soon.wait(), wait_s)
            soon.clear()
            await self._probe(replica)

    async def _probe(self, replica: Replica) -> None:
        was = replica.health
        try:
            await self._get(replica, "/health")
            if replica.id not in self.model_cards or was is not Health.READY:
                await self._ask_models(replica)
            evidence = await self._ask_metrics(replica)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            evidence, why = Evidence.PROBE_FAILED, f": {type(error).__name__}: {error}"
            spent(error)
        else:
            why = _WHY.get(evidence, "")
        self._note(replica, why)
        if evidence is Evidence.PROBE_FAILED and was is Health.STARTING:
            self._say_missing(replica, why)
        if replica.see(evidence, self._clock()):
            level = logging.INFO if replica.health is Health.READY else logging.WARNING
            log.log(level, "replica %s is %s (was %s)%s", replica.id, replica.health, was, why)
            self._changed(replica)

    def _note(self, replica: Replica, why: str) -> None:
        if why:
            self.trouble[replica.id] = why.removeprefix(": ")
        else:
            self.trouble.pop(replica.id, None)

    def _say_missing(self, replica: Replica, why: str) -> None:
        """Once: an engine may load its model for minutes."""
        if replica in self._missing:
            return
        self._missing.add(replica)
        log.warning(
            "replica %s does not answer yet%s. It may be loading its model, and is asked again "
            "until it does. If it should be up: kvproxy doctor --replica %s",
            replica.id,
            why,
            replica.url,
        )

    async def _ask_models(self, replica: Replica) -> None:
        listing = orjson.loads(await self._get(replica, "/v1/models"))
        if not isinstance(listing, dict) or not isinstance(listing.get("data"), list):
            raise ValueError("/v1/models is not a list of models")
        cards = [card for card in listing["data"] if isinstance(card, dict) and "id" in card]
        self.model_cards[replica.id] = cards
        replica.models = tuple(str(card["id"]) for card in cards)

    async def _ask_metrics(self, replica: Replica) -> Evidence:
        scrape = read_metrics((await self._get(replica, "/metrics")).decode(errors="replace"))
        replica.running, replica.waiting = scrape.running, scrape.waiting
        replica.load.scraped(scrape.running, scrape.waiting)
        replica.block_size = scrape.block_size or replica.block_size
        if scrape.prefix_caching is False:
            replica.fit(0)
        elif scrape.hbm_tokens is not None and replica.id not in self._fixed_hbm:
            replica.fit(scrape.hbm_tokens)
        if replica.began(scrape.process_began, self._clock()):
            log.warning("replica %s was restarted: its cache is empty", replica.id)
        if scrape.asleep:
            return Evidence.SLEEPS
        stalled_s = replica.progress.stalled_s(scrape.running, scrape.work, self._clock())
        return Evidence.STALLED if stalled_s >= self._stall_s else Evidence.PROBE_OK

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
