"""Who must get on by when: one timer for all connections instead of one each.

A timer costs more than reading a chunk, so members only note a time; it is looked at a few times
within the shortest patience.
"""

import asyncio
from typing import Protocol

_LOOKS_PER_PATIENCE = 4
_INTERVAL_MIN_S, _INTERVAL_MAX_S = 0.01, 1.0


class Member(Protocol):
    """`deadline` is in the loop's time, inf for none."""

    deadline: float

    def expired(self) -> None: ...


class Deadlines:
    def __init__(self, shortest_s: float) -> None:
        looked = shortest_s / _LOOKS_PER_PATIENCE
        self._interval_s = min(max(looked, _INTERVAL_MIN_S), _INTERVAL_MAX_S)
        self._timer: asyncio.TimerHandle | None = None
        self.members: set[Member] = set()

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self.start()
        now = asyncio.get_running_loop().time()
        for member in [member for member in self.members if member.deadline <= now]:
            member.expired()
