"""A worker's end of the hop: connected as long as somebody listens, a frame a turn of the loop."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import msgspec

from kvproxy.background import keep
from kvproxy.core import hop

log = logging.getLogger("kvproxy.hop")

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 1.0
_LOOK_S = 0.5
_LATEST_S = 0.005


class LostError(Exception):
    """Nobody answers: there is no placement process for now."""


class Listener(Protocol):
    """Who is told what comes."""

    def joined(self) -> Sequence[hop.FromWorker]:
        """Another placement process listens; what it has to know first."""

    def lost(self) -> None: ...

    def heard(self, message: hop.FromPlacement) -> None: ...


class HopLink(asyncio.Protocol):
    """`silence_s`: a placement process that says nothing for so long is given up for stuck.
    `unsent_bytes_max`: beyond it the link is full."""

    def __init__(
        self,
        path: str,
        worker: str,
        listener: Listener,
        clock: Callable[[], float],
        *,
        silence_s: float,
        unsent_bytes_max: int,
    ) -> None:
        self._path = path
        self._worker = worker
        self._listener = listener
        self._clock = clock
        self._silence_s = silence_s
        self._unsent_bytes_max = unsent_bytes_max
        self._frames = hop.Frames()
        self._transport: asyncio.Transport | None = None
        self._out: list[hop.FromWorker] = []
        self._due: asyncio.Handle | None = None
        self._late = False
        self._questions: dict[int, asyncio.Future[hop.FromPlacement]] = {}
        self._q = 0
        self._heard_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._down = asyncio.Event()
        self.up = False
        self.full = False
        self.became_up = asyncio.Event()

    def start(self) -> None:
        self._task = keep("hop", self._keep)

    async def close(self) -> None:
        """What was said goes out first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._flush()
        if self._transport is not None:
            self._transport.close()
            await asyncio.sleep(0)

    def say(self, message: hop.FromWorker, *, at_once: bool = False) -> None:
        """Goes out with what else this turn has to say, or `at_once`; into nothing while the link
        is down."""
        if not self.up:
            return
        self._out.append(message)
        if self._due is not None and (self._late or at_once):
            self._due.cancel()
            self._due = None
        if at_once:
            self._flush()
            return
        if self._due is None:
            self._due, self._late = asyncio.get_running_loop().call_soon(self._flush), False

    def mention(self, message: hop.FromWorker) -> None:
        """Goes out with what is said next, or soon by itself: nobody waits for it, and a frame of
        its own would cost both sides more than it says."""
        if not self.up:
            return
        self._out.append(message)
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due, self._late = loop.call_later(_LATEST_S, self._flush), True

    def next_question(self) -> "tuple[int, asyncio.Future[hop.FromPlacement]]":
        self._q += 1
        future: asyncio.Future[hop.FromPlacement] = asyncio.get_running_loop().create_future()
        self._questions[self._q] = future
        return self._q, future

    async def ask(self, make: Callable[[int], hop.FromWorker]) -> hop.FromPlacement:
        """The answer to `make(q)`. Raises LostError."""
        if not self.up:
            raise LostError
        q, future = self.next_question()
        self.say(make(q))
        try:
            return await future
        finally:
            self._questions.pop(q, None)
            # What is raised refers to this call, and must not be referred to by it.
            del future

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._unsent_bytes_max)
        self._frames, self._out, self.full = hop.Frames(), [], False
        self._heard_at = self._clock()
        # Answers come once the other side has told how the replicas are.
        self._transport.write(hop.frame([hop.Hello(self._worker, os.getpid())]))

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._clock()
        try:
            for payload in self._frames.feed(data):
                for message in hop.from_placement.decode(payload):
                    self._hear(message)
        except (hop.BrokenHopError, msgspec.MsgspecError) as error:
            log.error("the placement process spoke what is not understood: %s", error)
            self._cut()

    def connection_lost(self, exc: Exception | None) -> None:
        was_up, self.up, self.full, self._transport = self.up, False, False, None
        self.became_up.clear()
        self._out = []
        for question in self._questions.values():
            if not question.done():
                question.set_exception(LostError())
        self._questions.clear()
        if was_up:
            self._listener.lost()
        self._down.set()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def _hear(self, message: hop.FromPlacement) -> None:
        if isinstance(message, hop.Allowed | hop.Spelled | hop.Shown):
            question = self._questions.pop(message.q, None)
            if question is not None and not question.done():
                question.set_result(message)
            return
        self._listener.heard(message)
        if not self.up and isinstance(message, hop.State):
            self.up = True
            for known in self._listener.joined():
                self.say(known)
            self.became_up.set()

    def _flush(self) -> None:
        self._due = None
        if self._out and self._transport is not None and not self._transport.is_closing():
            out, self._out = self._out, []
            self._transport.write(hop.frame(out))

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _keep(self) -> None:
        """Connected again and again, as long as the worker lives."""
        loop, wait_s = asyncio.get_running_loop(), _FIRST_WAIT_S
        while True:
            self._down.clear()
            try:
                await loop.create_unix_connection(lambda: self, self._path)
            except OSError:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
                continue
            wait_s = _FIRST_WAIT_S
            while not self._down.is_set():
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await self._down.wait()
                except TimeoutError:
                    if self._clock() - self._heard_at > self._silence_s:
                        log.error("the placement process is silent: it is given up")
                        self._cut()
