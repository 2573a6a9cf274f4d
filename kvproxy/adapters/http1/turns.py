"""While streams flow, requests that begin and answers that begin or end take turns.

Each takes hundreds of microseconds of Python. Where many come at once, as the turns of a fleet of
agents do, chunks of streams would wait for the last of them; so they go between. Where nothing
streams all go on at once, which is cheaper by a tenth.
"""

import asyncio
from collections import deque
from time import thread_time

# How much longer they take than all else in a turn of the loop. Where chunks come faster than they
# go on, larger steps cost less: 1 ms is hardly more than a chunk waits for the others then.
_SHARE = 4.0
_MOST_S = 0.001
# And at least so much of it: however long chunks take, a third of the time is theirs who wait.
_LEAST_SHARE = 0.5
# The next may take longer than the last.
_EACH_MIN_S = 0.0002


class Turns:
    """One goes on in each turn of the loop, or as many as take no longer than they may. `streams`
    are those that flow; nobody need ask for a turn where there are none."""

    def __init__(self) -> None:
        self.streams = 0
        self._answers: deque[asyncio.Future[None]] = deque()
        self._requests: deque[asyncio.Future[None]] = deque()
        self._taken = False
        self._going = 0
        self._let_go_at = self._began_at = 0.0

    async def turn(self, *, answer: bool) -> None:
        """Returns at once where nobody else went on in this turn of the loop. Else first come,
        first served, and answers before requests: with them waits what an engine has sent."""
        loop = asyncio.get_running_loop()
        if self._taken:
            mine = loop.create_future()
            (self._answers if answer else self._requests).append(mine)
            await mine
        else:
            self._taken = True
            loop.call_soon(self._next)

    def _next(self) -> None:
        """Called behind those that went on, before the loop looks for what came meanwhile."""
        if not self._answers and not self._requests:
            self._taken, self._going = False, 0
            return
        loop, now = asyncio.get_running_loop(), thread_time()
        many, going = self._fitting(now), 0
        while going < many and (waiting := self._answers or self._requests):
            mine = waiting.popleft()
            # The task of one that is done was cancelled.
            if not mine.done():
                if not going:
                    loop.call_soon(self._begin)
                mine.set_result(None)
                going += 1
        self._going, self._let_go_at = going, now
        self._taken = going > 0
        if self._taken:
            loop.call_soon(self._next)

    def _fitting(self, now: float) -> int:
        """How many may go on, by what the last ones took and what the loop did before them."""
        if not self._going:
            return 1
        others_s = self._began_at - self._let_go_at
        each_s = max((now - self._began_at) / self._going, _EACH_MIN_S)
        fits_s = max(min(_SHARE * others_s, _MOST_S), _LEAST_SHARE * others_s)
        return max(1, int(fits_s / each_s))

    def _begin(self) -> None:
        """Called before those that were let go."""
        self._began_at = thread_time()
