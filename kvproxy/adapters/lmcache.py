"""Asking LMCache's coordinator, or its older controller, who holds a prefix below HBM.

Nothing here is on a request's path. A source that fails answers nothing, says so once, and is asked
again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

import aiohttp

from kvproxy.background import keep
from kvproxy.core import lmcache
from kvproxy.core.lmcache import Instance, Keys, LmcacheError, Lookup
from kvproxy.core.spent import spent

log = logging.getLogger("kvproxy.lmcache")

_ANSWER_BYTES_MAX = 32 * 2**20


@dataclass(frozen=True, slots=True)
class LmcacheLimits:
    """`chunk_tokens` holds until a server says better; `dram_tokens` None: they say it.
    `interval_s` is between looks at the instances; those that are `expected` should be there."""

    chunk_tokens: int = 256
    dram_tokens: int | None = None
    world_size: int = 1
    interval_s: float = 5.0
    timeout_s: float = 2.0
    expected: frozenset[str] = frozenset()


@dataclass(slots=True)
class Counts:
    asked: int = 0
    answered: int = 0
    failed: int = 0


@dataclass(slots=True)
class LmcacheState:
    """What the last looks at the servers found; `dram_bytes` by instance, `chunk_bytes` once a
    lookup has met a chunk."""

    up: bool = True
    chunk_tokens: int = 256
    instances: dict[str, Instance] = field(default_factory=dict)
    dram_bytes: dict[str, int] = field(default_factory=dict)
    chunk_bytes: int | None = None


class LmcacheDirectory:
    """Either URL may be empty; the controller is asked only while the coordinator is not there."""

    def __init__(self, coordinator_url: str, controller_url: str, limits: LmcacheLimits) -> None:
        assert coordinator_url or controller_url
        self.state = LmcacheState(chunk_tokens=limits.chunk_tokens)
        self.counts = Counts()
        self.heard = True
        self._coordinator_url = coordinator_url.rstrip("/")
        self._controller_url = controller_url.rstrip("/")
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None
        self._watching: asyncio.Task[None] | None = None
        self._missing: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Returns when the instances were asked for once."""
        timeout = aiohttp.ClientTimeout(total=self._limits.timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout)
        if self._coordinator_url:
            await self._look()
            self._watching = keep("lmcache", self._watch)

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    @property
    def instances(self) -> dict[str, Instance]:
        return self.state.instances

    async def lookup(self, token_ids: Sequence[int], model: str, salt: str) -> Lookup | None:
        """Who holds how much of this prompt; None when nobody answered.

        `token_ids` are those of the whole prompt, `model` is the path that the engines loaded.
        """
        whole = len(token_ids) // self.state.chunk_tokens * self.state.chunk_tokens
        if not whole:
            return Lookup({}, None)
        return await self._counted(self._ask_either(token_ids[:whole], model, salt))

    async def again(self, keys: Keys) -> Lookup | None:
        """The same for a prompt whose chunks are known by name."""
        if not self.state.up:
            return None
        return await self._counted(self._ask_coordinator(lmcache.keys_body(keys)))

    def dram_tokens(self, instance: str) -> int | None:
        """How much of a prompt's KV fits an instance's DRAM; None while nobody has said."""
        size, chunk = self.state.dram_bytes.get(instance), self.state.chunk_bytes
        if self._limits.dram_tokens is not None or size is None or chunk is None:
            return self._limits.dram_tokens
        return size // chunk * self.state.chunk_tokens

    async def _counted(self, asking: Awaitable[Lookup]) -> Lookup | None:
        self.counts.asked += 1
        try:
            found = await asking
        except (aiohttp.ClientError, TimeoutError, LmcacheError) as error:
            self.counts.failed += 1
            self.heard = False
            self._went(up=False, why=error)
            return None
        self.counts.answered += 1
        self.heard = True
        return found

    async def _ask_either(self, token_ids: Sequence[int], model: str, salt: str) -> Lookup:
        if self._coordinator_url and (self.state.up or not self._controller_url):
            body = lmcache.lookup_body(token_ids, model, salt, self._limits.world_size)
            try:
                return await self._ask_coordinator(body)
            except (aiohttp.ClientError, TimeoutError, LmcacheError) as error:
                if not self._controller_url:
                    raise
                self._went(up=False, why=error)
        body = lmcache.controller_body(token_ids)
        answer = await self._fetch("POST", f"{self._controller_url}/lookup", body)
        return Lookup(lmcache.read_controller(answer), None)

    async def _ask_coordinator(self, body: bytes) -> Lookup:
        answer = await self._fetch("POST", f"{self._coordinator_url}/directory/lookup", body)
        found = lmcache.read_lookup(answer, self.state.chunk_tokens)
        self.state.chunk_bytes = found.chunk_bytes or self.state.chunk_bytes
        return found

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._limits.interval_s)
            await self._look()

    async def _look(self) -> None:
        """Who is registered, how large they are, and how they cut prompts."""
        try:
            listing = await self._fetch("GET", f"{self._coordinator_url}/instances")
            instances = {each.id: each for each in lmcache.read_instances(listing)}
            usage = await self._fetch("GET", f"{self._coordinator_url}/instances/usage")
            # What servers say themselves holds where the coordinator was not told.
            known = self.state.dram_bytes.items()
            kept = {name: size for name, size in known if name in instances}
            self.state.dram_bytes = kept | lmcache.read_dram_bytes(usage)
            new = instances.keys() - self.state.instances.keys()
            self.state.instances = instances
            self._miss(self._limits.expected - instances.keys())
        except (aiohttp.ClientError, TimeoutError, LmcacheError) as error:
            self.heard = self.heard and bool(self._controller_url)
            self._went(up=False, why=error)
            return
        self.heard = True
        self._went(up=True)
        for name in sorted(new):
            await self._ask_config(instances[name])

    def _miss(self, missing: frozenset[str]) -> None:
        """Servers of the settings that are not registered; each is named once while it is gone."""
        for name in sorted(missing - self._missing):
            log.warning(
                "LMCache server %s is not registered with the coordinator, so what it holds is not "
                "known: start it with --coordinator-url and --instance-id %s; if it was dropped, "
                "its --coordinator-heartbeat-interval must be well below the coordinator's "
                "--instance-timeout", name, name,
            )  # fmt: skip
        self._missing = missing

    async def _ask_config(self, instance: Instance) -> None:
        """A server may not be reachable from here: then the settings hold."""
        url = f"http://{instance.host}:{instance.http_port}/config"
        try:
            config = lmcache.read_config(await self._fetch("GET", url))
        except (aiohttp.ClientError, TimeoutError, LmcacheError) as error:
            log.info("LMCache server %s does not show its configuration: %s", instance.id, error)
            spent(error)
            return
        self.state.dram_bytes.setdefault(instance.id, config.dram_bytes)
        if config.chunk_tokens != self.state.chunk_tokens:
            log.warning(
                "LMCache server %s has chunks of %d tokens, not %d: set lmcache.chunk_tokens",
                instance.id, config.chunk_tokens, self.state.chunk_tokens,
            )  # fmt: skip
            self.state.chunk_tokens = config.chunk_tokens

    async def _fetch(self, method: str, url: str, body: bytes | None = None) -> bytes:
        assert self._session is not None, "lookup before start"
        headers = {"content-type": "application/json"} if body is not None else {}
        async with self._session.request(method, url, data=body, headers=headers) as response:
            if response.status != 200:
                raise LmcacheError(f"{url} answered {response.status}")
            answer = await response.content.read(_ANSWER_BYTES_MAX + 1)
            while not response.content.at_eof() and len(answer) <= _ANSWER_BYTES_MAX:
                answer += await response.content.read(_ANSWER_BYTES_MAX + 1 - len(answer))
            if len(answer) > _ANSWER_BYTES_MAX:
                raise LmcacheError(f"{url} is larger than {_ANSWER_BYTES_MAX} bytes")
            return answer

    def _went(self, *, up: bool, why: Exception | None = None) -> None:
        if up != self.state.up:
            if up:
                log.info("LMCache's coordinator answers again")
            else:
                log.warning(
                    "LMCache at %s does not answer, so DRAM and disk are guessed: %s: %s",
                    self._coordinator_url or self._controller_url, type(why).__name__, why,
                )  # fmt: skip
        self.state.up = up
        if why is not None:
            spent(why)
