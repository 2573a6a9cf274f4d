"""Whether a run measured the endpoint or its own client.

The client's share shows in two places: requests that left later than they were due, and an event
loop that woke later than it asked to, by which every time it took may be wrong.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from loadgen.stats import quantile

LAG_P99_MAX_S = 0.005
LAG_SLO_SHARE = 0.01
# Fewer values than this have no 99th percentile, only a worst one.
LAGS_MIN = 100
_SCHEDSTAT = Path("/proc/self/schedstat")


def allowed_lag_s(ttft_slo_s: float | None, time_scale: float = 1.0) -> float:
    """The largest p99 of the client's own delay, in real seconds, for an SLO in engine seconds."""
    share = LAG_SLO_SHARE * ttft_slo_s / time_scale if ttft_slo_s is not None else 0.0
    return max(LAG_P99_MAX_S, share)


def verdict(
    send_lags_s: Sequence[float], loop_lags_s: Sequence[float], allowed_s: float
) -> dict[str, object]:
    """`valid`, and the p99 of the worse kind of lag. With few samples one late wake-up decides
    nothing: then the verdict is left to the event loop, which is asked all the time."""
    send = sorted(send_lags_s) if len(send_lags_s) >= LAGS_MIN else []
    p99 = [quantile(sorted(lags), 0.99) for lags in (send, loop_lags_s) if lags]
    worst = max(p99, default=0.0)
    return {"valid": worst <= allowed_s, "lag_p99_s": worst, "lag_allowed_s": allowed_s}


def client_of(
    send_lags_s: Sequence[Sequence[float]], measured: Sequence[Measured], allowed_s: float
) -> dict[str, object]:
    """The verdict on a run of several processes, each with its own lags: that on the worst of
    them. `cpu` is of all together."""
    told = [
        verdict(lags, one.loop_lags_s, allowed_s) | {"cpu": one.cpu, "cpu_wait": one.cpu_wait}
        for lags, one in zip(send_lags_s, measured, strict=True)
    ]
    if not told:  # ended before anybody had begun
        return verdict([], [], allowed_s) | {"cpu": None, "cpu_wait": None}
    waits = [one.cpu_wait for one in measured if one.cpu_wait is not None]
    worst = max(told, key=lambda one: float(str(one["lag_p99_s"])))
    client = worst | {
        "cpu": sum(one.cpu or 0.0 for one in measured),
        "cpu_wait": max(waits, default=None),
    }
    return client if len(told) == 1 else client | {"workers": told}


class Measured(Struct):
    """What a process found out about itself: how late its event loop woke, its shares of a core
    (None where the kernel does not say)."""

    loop_lags_s: list[float]
    cpu: float | None
    cpu_wait: float | None


class CpuMeter:
    """This process's use of one core since it was made, and its wait for one."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._used = time.process_time()
        self._waited = _waited_s()

    def read(self) -> dict[str, float | None]:
        """Shares of the time: `cpu` on a core, `cpu_wait` ready to run while others ran (None
        where the kernel does not say)."""
        span = max(1e-9, time.monotonic() - self._began)
        waited = _waited_s()
        known = waited is not None and self._waited is not None
        return {
            "cpu": (time.process_time() - self._used) / span,
            "cpu_wait": ((waited or 0.0) - (self._waited or 0.0)) / span if known else None,
        }


def _waited_s() -> float | None:
    """How long the main thread was kept from a core that it wanted."""
    try:
        return int(_SCHEDSTAT.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None
