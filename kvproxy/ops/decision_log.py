"""Writes decisions to a file, in a thread of its own: the event loop only puts them in a queue."""

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from typing import BinaryIO

from xxhash import xxh3_64_intdigest

from kvproxy.ops.decision_lines import Decided, Lines, decided
from kvproxy.ops.source_counters import Counted
from kvproxy.proxy import Record

log = logging.getLogger("kvproxy")


# A disk that hangs must not keep a process from ending.
_CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class LogLimits:
    """`sample`: share of the conversations; `max_bytes` of a file, `files` of them."""

    sample: float = 1.0
    max_bytes: int = 64 * 2**20
    files: int = 8
    queue_max: int = 4096


class DecisionLog:
    """`add` never waits, `close` writes what is queued. No file is opened before a decision."""

    def __init__(self, path: Path, limits: LogLimits) -> None:
        self._path = path
        self._limits = limits
        self._secret = secrets.token_bytes(32)
        self._lines = Lines(self._secret)
        self._queue: Queue[Decided | None] = Queue(limits.queue_max)
        self._epoch = time.time() - time.monotonic()
        self._file: BinaryIO | None = None
        self._ill = False
        self._counts = {"written": 0, "dropped": 0, "failed": 0}
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    def add(self, record: Record) -> None:
        if record.turn is None or not self._is_sampled(record):
            return
        one = decided(record, self._epoch + record.began)
        try:
            if one is not None:
                self._queue.put_nowait(one)
        except Full:
            self._counts["dropped"] += 1

    def close(self) -> None:
        """Blocks until everything queued is written, or the disk has hung for long enough."""
        with suppress(Full):
            self._queue.put(None, timeout=_CLOSE_TIMEOUT_S)
        self._thread.join(_CLOSE_TIMEOUT_S)

    def counted(self) -> Iterator[Counted]:
        text = "Decisions for the decision log, by what became of them."
        for outcome, count in self._counts.items():
            yield Counted("kvproxy_decisions_logged", text, {"outcome": outcome}, count)

    def _is_sampled(self, record: Record) -> bool:
        """Conversations whole, so that a replay finds what each turn had before it."""
        share = self._limits.sample
        if share >= 1.0 or record.turn is None:
            return share >= 1.0
        session = record.identity.session if record.identity is not None else ""
        hashes = record.turn.chain.hashes
        name = session.encode() or hashes[:1].tobytes()
        return xxh3_64_intdigest(name) < share * 2**64

    def _run(self) -> None:
        while True:
            one = self._queue.get()
            ended = one is None
            batch = [one] if one is not None else []
            try:
                while not ended and len(batch) < 256:
                    more = self._queue.get_nowait()
                    ended = more is None
                    if more is not None:
                        batch.append(more)
            except Empty:
                pass
            self._write(batch)
            if ended:
                if self._file is not None:
                    self._file.close()
                return

    def _write(self, batch: list[Decided]) -> None:
        written = 0
        try:
            for one in batch:
                self._opened().write(self._lines.line(one))
            if self._file is not None:
                self._file.flush()
            # Only now: until then lines are in a buffer.
            written = len(batch)
            self._ill = False
        except Exception as error:  # noqa: BLE001 - a thread that dies would do so silently
            if not self._ill:
                log.warning("decisions are not written to %s: %s", self._path, error)
            self._ill = True
            if self._file is not None:
                # What is left in its buffer fails once more.
                with suppress(OSError):
                    self._file.close()
            self._file = None
        self._counts["written"] += written
        self._counts["failed"] += len(batch) - written

    def _opened(self) -> BinaryIO:
        """The file to write to: a new one when the last is full."""
        if self._file is not None and self._file.tell() >= self._limits.max_bytes:
            self._file.close()
            self._file = None
        if self._file is None:
            if self._path.exists() and self._path.stat().st_size >= self._limits.max_bytes:
                self._shift()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "ab")
            if self._file.tell() and not self._ends_whole():
                self._file.write(b"\n")
            self._file.write(self._lines.first(time.time()))
        return self._file

    def _ends_whole(self) -> bool:
        """False where a process was killed in the middle of a line."""
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _shift(self) -> None:
        names = [self._path, *(Path(f"{self._path}.{n}") for n in range(1, self._limits.files))]
        for older, newer in zip(reversed(names), [*reversed(names[:-1])], strict=False):
            if newer.exists():
                newer.replace(older)
        self._path.unlink(missing_ok=True)
