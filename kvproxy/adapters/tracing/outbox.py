"""Spans on their way out: a bounded queue, and a task that nobody waits for.

The task lives in the event loop and spells one request's spans at a time. A thread would be worse
here: what it does in Python keeps the loop from running, in one piece for as long as the
interpreter's switch interval, which is some milliseconds.
"""

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar, NamedTuple, Protocol

from kvproxy.core.trace import Span, Value

log = logging.getLogger("kvproxy.tracing")

BATCH_SPANS = 256


class Told(NamedTuple):
    """The spans of one request; `epoch_ns` is what their clock showed 0 at, since 1970."""

    spans: Sequence[Span]
    epoch_ns: int


class Speaker(NamedTuple):
    """Whose spans they are: `resource` describes this process, `version` is kvproxy's."""

    resource: Mapping[str, Value]
    version: str


class Batch(Protocol):
    """A message to a collector that is being written."""

    def add(self, told: Told) -> None: ...

    def body(self) -> bytes: ...


class Taken(NamedTuple):
    """What became of a message: how many of its spans were refused, and `why` if any were, or all
    of them where `refused` is None."""

    refused: int | None = 0
    why: str = ""


Post = Callable[[bytes], Awaitable[Taken]]
# Counts spans by what became of them: sent, dropped (too many waited) or failed (nobody took them).
Count = Callable[[str, int], None]


class Outbox:
    """`requests_max`: requests whose spans wait. Nothing runs while none do. `where`: for logs."""

    # How long the first waits for others.
    linger_s: ClassVar[float] = 1.0

    def __init__(
        self, batch: Callable[[], Batch], post: Post, count: Count, requests_max: int, where: str
    ) -> None:
        self._batch = batch
        self._post = post
        self._count = count
        self._requests_max = requests_max
        self._where = where
        self._waiting: deque[Told] = deque()
        self._under_way = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._ill = False

    def put(self, told: Told) -> None:
        """Never waits: what is too much is dropped and counted."""
        waiting = len(self._waiting)
        if waiting >= self._requests_max or self._closed:
            self._count("dropped", len(told.spans))
            return
        self._waiting.append(told)
        if self._task is None:
            loop = asyncio.get_running_loop()
            # In a context of its own: that of the request would live on in it.
            self._task = loop.create_task(self._drain(), context=contextvars.Context())
        elif waiting >= self._requests_max // 2:
            self._wake.set()

    async def close(self, within_s: float) -> None:
        """Sends what waits, for so long."""
        self._closed = True
        self._wake.set()
        task = self._task
        if task is not None:
            await asyncio.wait({task}, timeout=within_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        left = self._under_way + sum(len(told.spans) for told in self._waiting)
        self._waiting.clear()
        self._count("dropped", left)

    async def _drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.linger_s):
                await self._wake.wait()
        self._wake.clear()
        while self._waiting:
            await self._send_some()
        self._task = None

    async def _send_some(self) -> None:
        batch, waiting = self._batch(), self._waiting
        try:
            while waiting and self._under_way < BATCH_SPANS:
                told = waiting.popleft()
                self._under_way += len(told.spans)
                batch.add(told)
                # Others first: they answer requests.
                await asyncio.sleep(0)
            taken = await self._post(batch.body())
        except Exception as error:  # noqa: BLE001 - a task that dies would do so silently
            taken = Taken(None, f"{type(error).__name__}: {error}")
        refused = self._under_way if taken.refused is None else taken.refused
        self._count("failed", refused)
        self._count("sent", self._under_way - refused)
        self._under_way = 0
        if taken.why and not self._ill:
            log.warning("spans are lost, %s does not take them: %s", self._where, taken.why)
        elif self._ill and not taken.why:
            log.info("spans are taken again by %s", self._where)
        self._ill = bool(taken.why)
