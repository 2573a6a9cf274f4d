"""Whose turn it is among tenants: each gets prefill seconds in proportion to its weight.

Start-time fair queueing: a tenant's clock runs by what it was given over its weight, and the one
furthest behind goes next. Who comes back from idling starts at the present, not with what it could
have had.
"""

from collections.abc import Iterable, Mapping

_TENANTS_MAX = 4096


class Shares:
    """`weights` by tenant, 1 for those not named. Clocks of at most 4096 tenants are kept."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = dict(weights or {})
        assert all(weight > 0 for weight in self._weights.values())
        self._clocks: dict[str, float] = {}
        self._present = 0.0

    def first(self, tenants: Iterable[str]) -> str:
        """The tenant whose turn it is; `tenants` is not empty. Equals: by name."""
        return min(tenants, key=lambda tenant: (self._clock(tenant), tenant))

    def charge(self, tenant: str, prefill_s: float) -> None:
        """`tenant` was given so many seconds; the present is where it started."""
        clocks = self._clocks
        start = clocks.get(tenant, 0.0)
        start = max(start, self._present)
        self._present = start
        clocks[tenant] = start + prefill_s / self._weights.get(tenant, 1.0)
        if len(clocks) > _TENANTS_MAX:
            # Whoever is hardly ahead of the present loses least by standing at it.
            del clocks[min(clocks, key=clocks.__getitem__)]

    def _clock(self, tenant: str) -> float:
        return max(self._present, self._clocks.get(tenant, 0.0))
