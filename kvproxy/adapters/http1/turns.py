"""Requests that begin, and answers that begin or end, take turns.

Each takes hundreds of microseconds of Python. Where many come at once, as the turns of a fleet of
agents do, chunks of streams would wait for the last of them, and so would first tokens of requests
that engines were given long before: so the loop looks for both in between.
"""

import asyncio
from collections import deque
from time import thread_time

# Of CPU time in a turn of the loop: hardly more than a chunk waits for the others. One by one they
# cost a tenth more than all at once, in such steps next to nothing.
_STEP_S = 0.001
# And at least so much of what all else takes: however long chunks do, a third of the time is theirs
# who wait.
_LEAST_SHARE = 0.5
# Requests in a row while nothing streamed, after which nobody is taken to wait for chunks: to take
# turns costs a request that is answered whole a fifth more.
_QUIET_REQUESTS = 256
# The next may take longer than the last.
_EACH_MIN_S = 0.0002


class _Line:
    """Those of one kind that wait, first come, first served, and what the last ones took each."""

    __slots__ = ("each_s", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.each_s = _STEP_S


class Turns:
    """One goes on in each turn of the loop, or as many as fit into a step. Answers go before
    requests: with them waits what an engine has sent. `streams` are those that flow."""

    def __init__(self) -> None:
        self.streams = 0
        self._without = 0
        self._answers, self._requests = _Line(), _Line()
        self._taken = False
        # How many were let go last and from where, when, and when the first of them began.
        self._going, self._line = 0, self._requests
        self._let_go_at = self._began_at = 0.0
        # Known when the first one goes on.
        self._loop: asyncio.AbstractEventLoop | None = None

    async def turn(self) -> None:
        """A request's: at once where nobody else went on in this turn of the loop."""
        self._without = 0 if self.streams else self._without + 1
        if self._without > _QUIET_REQUESTS:
            return
        if self._taken:
            mine = asyncio.get_running_loop().create_future()
            self._requests.waiting.append(mine)
            await mine
        else:
            self._take()

    def wake(self, waiter: asyncio.Future[None], *, answer: bool) -> None:
        """Whoever waits on `waiter` goes on, in its turn."""
        if self.streams:
            self._without = 0
        if self._without > _QUIET_REQUESTS:
            waiter.set_result(None)
        elif self._taken:
            (self._answers if answer else self._requests).waiting.append(waiter)
        else:
            waiter.set_result(None)
            self._take()

    def _take(self) -> None:
        self._taken = True
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Called behind those that went on, before the loop looks for what came meanwhile."""
        line = self._answers if self._answers.waiting else self._requests
        if not line.waiting:
            self._taken, self._going = False, 0
            return
        loop, now = asyncio.get_running_loop(), thread_time()
        many, going = self._fitting(line, now), 0
        while going < many and line.waiting:
            mine = line.waiting.popleft()
            # The task of one that is done was cancelled.
            if not mine.done():
                if not going:
                    loop.call_soon(self._begin)
                mine.set_result(None)
                going += 1
        self._going, self._line, self._let_go_at = going, line, now
        loop.call_soon(self._next)

    def _fitting(self, line: _Line, now: float) -> int:
        """How many of `line` may go on, by what the last ones took, and all else before them."""
        others_s = 0.0
        if self._going:
            others_s = self._began_at - self._let_go_at
            self._line.each_s = max((now - self._began_at) / self._going, _EACH_MIN_S)
        return max(1, int(max(_STEP_S, _LEAST_SHARE * others_s) / line.each_s))

    def _begin(self) -> None:
        """Called before those that were let go."""
        self._began_at = thread_time()
