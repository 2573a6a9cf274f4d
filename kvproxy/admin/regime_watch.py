"""Says in the log when the regime changes, and stays quiet otherwise."""

import asyncio
import logging
from collections.abc import Callable

from kvproxy.background import keep
from kvproxy.core.regime import Regime, regime_of
from kvproxy.core.router import Router

log = logging.getLogger("kvproxy.regime")


class RegimeWatch:
    """Looks every `interval_s`; a change counts once two looks in a row agree on it."""

    def __init__(self, router: Router, clock: Callable[[], float], interval_s: float) -> None:
        self._router = router
        self._clock = clock
        self._interval_s = interval_s
        self._told = self._last = Regime.HBM_ENOUGH
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = keep("regime", self._run)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look(self) -> None:
        advice = regime_of(self._router, self._clock())
        if advice.regime == self._last != self._told:
            self._told = advice.regime
            fields = {name: value for name, value in advice.as_json().items() if name != "advice"}
            log.info(advice.text, extra={"fields": fields})
        self._last = advice.regime

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self.look()
