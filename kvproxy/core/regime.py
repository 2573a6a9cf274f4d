"""Which memory would pay: the live working set against what the tiers hold.

Idle prefixes compete for the HBM that running requests leave over. While an hour's conversations
fit there, nothing alive is evicted. While those of the last quarter of an hour fit, only people who
come back late miss. When they do not fit, prefixes die between turns, and a DRAM tier pays for
itself; it stores all that is computed, so it has to hold the working set by itself, or more memory
or replicas are needed. No threshold is a constant: all are capacities of this pool.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kvproxy.core.router import Router
from kvproxy.core.working_set import WINDOWS_S

# Between turns of live conversations lie seconds to minutes; an hour takes in the ones who return.
_LIVE_S, _RETURNING_S = 900.0, 3600.0


class Regime(StrEnum):
    HBM_ENOUGH = "hbm_enough"
    WATCH_EVICTIONS = "watch_evictions"
    DRAM_PAYS = "dram_pays"
    ADD_CAPACITY = "add_capacity"


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of all ready replicas, in tokens; `held` is what running requests hold on average."""

    hbm: int
    held: int
    dram: int

    @property
    def usable(self) -> int:
        return max(0, self.hbm - self.held)


@dataclass(frozen=True, slots=True)
class Advice:
    """`working_set` in tokens by window in seconds."""

    regime: Regime
    text: str
    working_set: Mapping[float, int]
    capacity: Capacity

    def as_json(self) -> dict[str, object]:
        return {
            "regime": self.regime,
            "advice": self.text,
            "working_set_tokens": {f"{s / 60:.0f}m": n for s, n in self.working_set.items()},
            "hbm_tokens": self.capacity.hbm,
            "held_tokens": self.capacity.held,
            "usable_hbm_tokens": self.capacity.usable,
            "dram_tokens": self.capacity.dram,
        }


def advise(working_set: Mapping[float, int], capacity: Capacity) -> Advice:
    """`working_set` has at least the windows of 900 and 3600 seconds."""
    live, returning = working_set[_LIVE_S], working_set[_RETURNING_S]
    usable, dram = capacity.usable, capacity.dram
    room = f"the {usable:,} tokens of HBM that running requests leave"
    if returning <= usable:
        regime = Regime.HBM_ENOUGH
        text = f"HBM is enough: an hour's conversations ({returning:,} tokens) fit {room}."
    elif live <= usable:
        regime = Regime.WATCH_EVICTIONS
        text = (
            f"HBM is enough for now: {live:,} tokens of the last 15 minutes fit {room}, an "
            f"hour's {returning:,} do not. Watch evictions."
        )
    elif not dram or live <= dram:
        regime = Regime.DRAM_PAYS
        text = f"A DRAM tier pays: {live:,} tokens of the last 15 minutes exceed {room}."
        if dram:
            text += f" The {dram:,} tokens of DRAM hold them: keep it on."
    else:
        regime = Regime.ADD_CAPACITY
        text = (
            f"Add NVMe or replicas: {live:,} tokens of the last 15 minutes exceed {room} and "
            f"the {dram:,} tokens of DRAM."
        )
    return Advice(regime, text, working_set, capacity)


def regime_of(router: Router, now: float) -> Advice:
    """Advice for the pool as it is."""
    ready = router.ready()
    tiers = {id(replica.dram): replica.dram.capacity for replica in ready if replica.dram}
    capacity = Capacity(
        hbm=sum(replica.hbm_tokens for replica in ready),
        held=round(router.held.average(now)),
        dram=sum(tiers.values()),
    )
    return advise({s: router.working_set.tokens(s, now) for s in WINDOWS_S}, capacity)
