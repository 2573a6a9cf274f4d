"""Filling the cache of a replica that came with an empty one, before conversations find it so.

It is sent the hottest shared prefixes, one at a time, and each only while it has nothing else to
do.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Mapping

import aiohttp

from kvproxy.core.hot_prefixes import HotPrefixes, Prefix
from kvproxy.core.kept_prompts import hold_on
from kvproxy.core.life_cycle import Evidence, Health
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.spent import spent

log = logging.getLogger("kvproxy.warm")

_LOOK_S = 0.05
# A replica that is at work for so long is warmed by its work.
_PATIENCE_S = 60.0


class WarmUp:
    """came() is called when a replica can be used; `changed` when warming changed its state."""

    def __init__(
        self,
        hot: HotPrefixes,
        ruler: Ruler,
        *,
        prefixes_max: int,
        timeout_s: float,
        clock: Callable[[], float],
        changed: Callable[[Replica], None],
        api_keys: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._hot = hot
        self._ruler = ruler
        self._prefixes_max = prefixes_max
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._clock = clock
        self._changed = changed
        self._api_keys = api_keys
        self._tls = tls
        self._running: dict[Replica, asyncio.Task[None]] = {}
        self.counts: Counter[str] = Counter()

    def came(self, replica: Replica) -> None:
        """Nothing happens to one that holds something, or is being warmed already."""
        if self._prefixes_max and not replica.hbm.runs and replica not in self._running:
            task = asyncio.get_running_loop().create_task(self._warm(replica))
            self._running[replica] = task
            task.add_done_callback(lambda _: self._running.pop(replica, None))

    async def close(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _warm(self, replica: Replica) -> None:
        wanted = self._hot.hottest(replica.serves, self._prefixes_max, self._clock())
        if not wanted:
            return
        done = 0
        connector = aiohttp.TCPConnector(ssl=self._tls or True)
        async with aiohttp.ClientSession(timeout=self._timeout, connector=connector) as session:
            for prefix in wanted:
                if not await self._idle(replica):
                    self.counts["skipped"] += 1
                    continue
                done += await self._send(session, replica, prefix)
        log.info("replica %s was sent %d of %d shared prefixes", replica.id, done, len(wanted))

    async def _idle(self, replica: Replica) -> bool:
        """Waits for the replica to have nothing to do; False when that does not come."""
        until = self._clock() + _PATIENCE_S
        # The core, whose counts these are, knows no events.
        while replica.load.in_flight or replica.running or replica.waiting:
            if self._clock() > until:
                return False
            await asyncio.sleep(_LOOK_S)
        return replica.health in (Health.READY, Health.PROBING)

    async def _send(self, session: aiohttp.ClientSession, replica: Replica, prefix: Prefix) -> bool:
        headers = {"content-type": "application/json"}
        if replica.id in self._api_keys:
            headers["authorization"] = f"Bearer {self._api_keys[replica.id]}"
        chain, url = prefix.chain, replica.url + prefix.path
        tokens = self._ruler.tokens_at(chain, len(chain), prefix.model)
        hold = replica.load.reserve(
            replica.id, replica.rate.prefill_s(tokens, tokens), self._clock()
        )
        try:
            async with session.post(url, data=prefix.body, headers=headers) as response:
                await response.read()
                sent = response.status == 200
        except (aiohttp.ClientError, TimeoutError) as error:
            spent(error)
            sent = False
        finally:
            replica.load.release(hold, self._clock())
        self.counts["sent" if sent else "failed"] += 1
        if sent:
            self._holds(replica, prefix)
            if replica.see(Evidence.ANSWERED, self._clock()):
                self._changed(replica)
        return sent

    def _holds(self, replica: Replica, prefix: Prefix) -> None:
        chain, hbm = prefix.chain, replica.hbm
        end, held = hbm.pin(chain.hashes)
        end = hold_on(self._ruler, hbm, end, chain, held, model=prefix.model)
        hbm.release(end, self._clock())
