"""Spans on their way out: a bounded queue, and a thread that nobody waits for.

The event loop only appends to a list. The thread wakes by itself, not for every request: waking it
would cost each of them more than their spans do. It sends little at a time, since what it does in
Python keeps the loop from running.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kvproxy.core.trace import Span

log = logging.getLogger("kvproxy.tracing")

_INTERVAL_S = 1.0
BATCH_SPANS = 128

# Counts spans by what became of them: sent, dropped (too many waited) or failed (nobody took them).
Count = Callable[[str, int], None]


class Told(NamedTuple):
    """The spans of one request; `epoch_ns` is 1970 on their clock, negated."""

    spans: Sequence[Span]
    epoch_ns: int


# Why nobody took them, "" when they were taken. May block, for a bounded time.
Send = Callable[[Sequence[Told]], str]


class Outbox:
    """`requests_max`: requests whose spans wait. No thread runs before the first of them."""

    def __init__(self, send: Send, count: Count, requests_max: int, where: str) -> None:
        self._send = send
        self._count = count
        self._requests_max = requests_max
        self._where = where
        self._waiting: deque[Told] = deque()
        self._wake = threading.Event()
        self._ended = False
        self._ill = False
        self._thread: threading.Thread | None = None

    def put(self, told: Told) -> None:
        """Never waits: what is too much is dropped and counted."""
        waiting = len(self._waiting)
        if waiting >= self._requests_max or self._ended:
            self._count("dropped", len(told.spans))
            return
        self._waiting.append(told)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
            self._thread.start()
        elif waiting == self._requests_max // 2:
            self._wake.set()

    def close(self, within_s: float) -> None:
        """Sends what waits, for so long; blocks."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(within_s)
        left = list(self._waiting)
        self._waiting.clear()
        self._count("dropped", sum(len(told.spans) for told in left))

    def _run(self) -> None:
        ended = False
        while not ended:
            self._wake.wait(_INTERVAL_S)
            self._wake.clear()
            # Looked at before what waits is sent: nothing is appended once it is so.
            ended = self._ended
            while self._waiting:
                self._send_some()

    def _send_some(self) -> None:
        batch: list[Told] = []
        spans = 0
        while spans < BATCH_SPANS:
            try:
                told = self._waiting.popleft()
            except IndexError:
                break
            batch.append(told)
            spans += len(told.spans)
        if not batch:
            return
        try:
            why = self._send(batch)
        except Exception as error:  # noqa: BLE001 - a thread that dies would do so silently
            why = f"{type(error).__name__}: {error}"
        self._count("failed" if why else "sent", spans)
        if why and not self._ill:
            log.warning("spans are lost, %s does not take them: %s", self._where, why)
        elif self._ill and not why:
            log.info("spans are taken again by %s", self._where)
        self._ill = bool(why)
