"""When conversations begin if nobody waits for anybody: at a rate, or when they did begin.

A closed loop slows down with the endpoint it measures; an open one does not, and so shows what
happens above capacity.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Literal

from loadgen.session import Entry, Session
from loadgen.traces.model import Trace

# An open loop faster than its endpoint would grow until memory ends it.
CONVERSATIONS_MAX = 20_000
Kind = Literal["constant", "poisson", "recorded"]
Following = tuple[Trace, Session]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`kind` constant or poisson: `rate` conversations a second of engine time. recorded: as the
    traces began, in the order of their traces; `rate` then plays that so many times as fast."""

    kind: Kind
    rate: float = 1.0

    def starts_s(self, traces: Sequence[Trace], seed: int) -> Iterator[float]:
        """Engine seconds from the start of the run, ascending; endless but for recorded ones."""
        assert self.rate > 0
        if self.kind == "recorded":
            first = min(trace.start_s for trace in traces)
            return iter(sorted((trace.start_s - first) / self.rate for trace in traces))
        if self.kind == "constant":
            return (number / self.rate for number in count())
        return self._poisson(Random(f"arrivals {seed}"))

    def _poisson(self, random: Random) -> Iterator[float]:
        at_s = 0.0
        while True:
            yield at_s
            at_s += random.expovariate(self.rate)


async def begin_each(
    starts_s: Iterable[float],
    following: Callable[[], Awaitable[Following | None]],
    gate: Entry,
    play: Callable[[Trace, Session, float], Coroutine[object, object, None]],
    *,
    began: float,
) -> bool:
    """Play each conversation from its time on (real seconds from the monotonic time `began`),
    however many others are still going on. False when there were too many of them, then no more
    are begun."""
    playing: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:
        for start_s in starts_s:
            taken = await following()
            if taken is None or not await gate.wait_until(began + start_s):
                break
            if len(playing) >= CONVERSATIONS_MAX:
                return False
            task = group.create_task(play(*taken, began + start_s))
            playing.add(task)
            task.add_done_callback(playing.discard)
    return True
