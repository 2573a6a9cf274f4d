"""What operators ask the server: JSON under /admin."""

from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

import orjson

from kvproxy.adapters.http1.listener import Page
from kvproxy.core.regime import regime_of
from kvproxy.core.replica import Replica
from kvproxy.core.router import Router
from kvproxy.ops.explanations import Explanations


class AdminApi:
    def __init__(
        self, router: Router, clock: Callable[[], float], explanations: Explanations
    ) -> None:
        self._router = router
        self._clock = clock
        self._explanations = explanations

    async def explain(self, query: str) -> Page:
        """GET /admin/explain?request_id=…: what became of that request's prefix, and why."""
        request_id = parse_qs(query).get("request_id", [""])[0]
        told = self._explanations.get(request_id)
        if told is not None:
            return Page(told)
        missing = "no prompt with this request_id is remembered (explain.requests_max_bytes)"
        return Page(orjson.dumps({"error": missing}), status=404)

    async def regime(self, _query: str) -> Page:
        """GET /admin/regime: which memory would pay, and the numbers behind it."""
        advice = regime_of(self._router, self._clock())
        return Page(orjson.dumps(advice.as_json(), option=orjson.OPT_INDENT_2))


def ready_page(replicas: Sequence[Replica], *, draining: bool) -> Page:
    """GET /readyz: whether requests can be served now."""
    health = {replica.id: replica.health for replica in replicas}
    ready = any(replica.up for replica in replicas) and not draining
    body = {"ready": ready, "draining": draining, "replicas": health}
    return Page(orjson.dumps(body), status=200 if ready else 503)
