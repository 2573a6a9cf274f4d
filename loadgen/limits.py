"""What this client allows itself: requests in flight, and tokens a minute, as providers limit them.

Who may not send waits, first come first served, and is due when it may.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadgen.sample import Sample

LOOK_S = 0.02
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """None = no limit. Input tokens are those that no cache could have held; a minute is one of
    engine time, and its tokens may be spent at once."""

    in_flight: int | None = None
    prefills: int | None = None
    decodes: int | None = None
    input_tokens_per_min: int | None = None
    output_tokens_per_min: int | None = None

    @property
    def any(self) -> bool:
        return self != Limits()


class Bucket:
    """Fills with `per_minute` tokens a minute and holds no more than a minute's. More than that
    at once is lent when it is full, or it could never be spent."""

    def __init__(self, per_minute: int | None, now: float) -> None:
        self._per_minute = per_minute
        self._level = float(per_minute or 0)
        self._at = now

    def has(self, tokens: int, now: float) -> bool:
        if self._per_minute is None:
            return True
        gained = (now - self._at) * self._per_minute / _MINUTE_S
        self._level = min(float(self._per_minute), self._level + gained)
        self._at = now
        return self._level >= min(tokens, self._per_minute)

    def spend(self, tokens: int) -> None:
        if self._per_minute is not None:
            self._level -= tokens


class Admission:
    """`flying` are the requests in flight, as they are at any time."""

    def __init__(
        self, limits: Limits, flying: Mapping[tuple[str, str, int], Sample], time_scale: float
    ) -> None:
        self._limits = limits
        self._flying = flying
        self._scale = time_scale
        now = time.monotonic() * time_scale
        self._input = Bucket(limits.input_tokens_per_min, now)
        self._output = Bucket(limits.output_tokens_per_min, now)
        self._line: deque[object] = deque()

    async def admit(
        self, due: float, uncached_tokens: int, output_tokens: int, closed: Callable[[], bool]
    ) -> float:
        """Wait until the request may leave or the run is `closed`; returns when it is due, `due`
        if it need not wait."""
        if not self._limits.any:
            return due
        me = object()
        self._line.append(me)
        try:
            while self._line[0] is not me or not self._room(uncached_tokens, output_tokens):
                if closed():
                    return due
                await asyncio.sleep(LOOK_S)
                due = time.monotonic()
            self._input.spend(uncached_tokens)
            self._output.spend(output_tokens)
        finally:
            self._line.remove(me)
        return due

    def _room(self, uncached_tokens: int, output_tokens: int) -> bool:
        limits, now = self._limits, time.monotonic() * self._scale
        decodes = sum(sample.t_first_token is not None for sample in self._flying.values())
        prefills = len(self._flying) - decodes
        return (
            _below(len(self._flying), limits.in_flight)
            and _below(prefills, limits.prefills)
            and _below(decodes, limits.decodes)
            and self._input.has(uncached_tokens, now)
            and self._output.has(output_tokens, now)
        )


def _below(count: int, most: int | None) -> bool:
    return most is None or count < most
