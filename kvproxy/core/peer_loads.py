"""What the other proxies of a fleet have under way on each replica, as far as that is fresh."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from kvproxy.core.replica import Replica
from kvproxy.core.shared_words import Loads, ReplicaLoad

_PROXIES_MAX = 256


class _Heard(NamedTuple):
    at: float
    rows: tuple[ReplicaLoad, ...]


class PeerLoads:
    """A proxy that said nothing for `expiry_s` is gone, and what it had with it."""

    def __init__(self, expiry_s: float) -> None:
        self._expiry_s = expiry_s
        self._by_proxy: dict[str, _Heard] = {}

    def __len__(self) -> int:
        return len(self._by_proxy)

    def told(self, loads: Loads, now: float) -> None:
        if loads.origin in self._by_proxy or len(self._by_proxy) < _PROXIES_MAX:
            self._by_proxy[loads.origin] = _Heard(now, loads.rows)

    def alive(self, now: float) -> set[str]:
        """Proxies that said something of late."""
        return {p for p, heard in self._by_proxy.items() if now - heard.at <= self._expiry_s}

    def apply(self, replicas: Iterable[Replica], now: float) -> None:
        """Every replica's load counts its peers' share from now on."""
        for proxy in [p for p, heard in self._by_proxy.items() if now - heard.at > self._expiry_s]:
            del self._by_proxy[proxy]
        sums: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
        for heard in self._by_proxy.values():
            for row in heard.rows:
                total = sums[row.replica]
                total[0] += row.decoding
                total[1] += row.waiting
                total[2] += row.waiting_s
        for replica in replicas:
            decoding, waiting, waiting_s = sums.get(replica.id, (0, 0, 0.0))
            replica.load.peers(int(decoding), int(waiting), waiting_s)


def own_loads(origin: str, replicas: Iterable[Replica], now: float) -> Loads:
    """What this proxy tells the others."""
    rows = []
    for replica in replicas:
        load = replica.load
        if load.in_flight:
            waiting = len(load.waiting)
            owed_s = load.own_queue_s(now)
            rows.append(ReplicaLoad(replica.id, load.in_flight - waiting, waiting, owed_s))
    return Loads(origin, tuple(rows))
