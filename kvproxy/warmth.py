"""What is done for replicas that come with empty caches: remembering what to send them, sending it,
giving them little work ahead at first, and taking them for as fast as others of their models.
"""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping

from kvproxy.adapters.warm_up import WarmUp
from kvproxy.core.hot_prefixes import HotPrefixes
from kvproxy.core.presumed_rates import presume_rates
from kvproxy.core.replica import Replica
from kvproxy.core.router import Router
from kvproxy.ops.source_counters import Counted
from kvproxy.proxy import Record
from kvproxy.settings.model import Settings


class Warmth:
    """answered() is told of every request, came() of replicas that can be used now."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        api_keys: Mapping[str, str],
        changed: Callable[[Replica], None],
        tls: ssl.SSLContext,
    ) -> None:
        self._settings = settings.warm
        self._router = router
        self.hot = HotPrefixes(settings.warm.max_bytes)
        self._warm_up = WarmUp(
            self.hot,
            router.ruler,
            prefixes_max=settings.warm.prefixes_max,
            timeout_s=settings.upstream.idle_timeout_s,
            clock=time.monotonic,
            changed=changed,
            api_keys=api_keys,
            tls=tls,
        )

    def answered(self, record: Record) -> None:
        if record.turn is not None and record.status == 200 and self._settings.prefixes_max:
            session = record.identity.session if record.identity is not None else ""
            self.hot.used(record.turn, record.exchange.path, record.body, record.began, session)

    def came(self, replica: Replica) -> None:
        presume_rates(self._router.replicas)
        if not replica.hbm.runs:
            replica.ease(time.monotonic(), self._settings.slow_start_s)
            self._warm_up.came(replica)

    async def close(self) -> None:
        await self._warm_up.close()

    def counted(self) -> Iterator[Counted]:
        """For metrics."""
        text = "Prefixes for replicas with empty caches"
        for outcome in ("sent", "failed", "skipped"):
            count = self._warm_up.counts[outcome]
            yield Counted("kvproxy_warm_ups", text, {"outcome": outcome}, count)
