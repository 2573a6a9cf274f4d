"""What operators ask the server: JSON under /admin."""

from collections.abc import Callable

import orjson

from kvproxy.adapters.http1.listener import Page
from kvproxy.core.regime import regime_of
from kvproxy.core.router import Router


class AdminApi:
    def __init__(self, router: Router, clock: Callable[[], float]) -> None:
        self._router = router
        self._clock = clock

    async def regime(self) -> Page:
        """GET /admin/regime: which memory would pay, and the numbers behind it."""
        advice = regime_of(self._router, self._clock())
        return Page(orjson.dumps(advice.as_json(), option=orjson.OPT_INDENT_2))
