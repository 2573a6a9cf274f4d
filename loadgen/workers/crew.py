"""The workers of a run as the process that leads them sees them: one force, one ledger.

Samples come here one by one and are counted here alone, so figures of several workers are those
of all their requests, not averages of averages.
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from loadgen.honesty import Measured
from loadgen.ledger import Ledger
from loadgen.session import Gate
from loadgen.workers.messages import REPORTS, Done, Job, Order, Report, frame, message, read_frame

READY_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 5.0
ERROR_BYTES_MAX = 2000


class WorkerError(Exception):
    """A worker ended before its work; the message ends with what it said."""


@dataclass(slots=True)
class _Worker:
    number: int
    child: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    errors: IO[bytes]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    heard_until: float = 0.0
    done: Done | None = None

    def order(self, order: Order) -> None:
        if self.done is None:
            self.writer.write(message(order))

    def lost(self) -> WorkerError:
        self.errors.seek(0)
        said = self.errors.read()[-ERROR_BYTES_MAX:].decode(errors="replace").strip()
        status = self.child.returncode
        return WorkerError(
            f"worker {self.number} ended early (status {status}): {said or 'silent'}"
        )


class Crew:
    """A force of as many workers as there are jobs; `close` ends them whatever has happened."""

    grace_s = 10.0

    def __init__(self, jobs: Sequence[Job], ledger: Ledger, gate: Gate) -> None:
        self._jobs = jobs
        self._ledger = ledger
        self._gate = gate
        self._workers: list[_Worker] = []
        self._listening: list[asyncio.Task[None]] = []

    async def prepare(self) -> None:
        """Start them all and wait until each has rendered what its first users send."""
        for number, job in enumerate(self._jobs):
            self._workers.append(worker := await _start(number, job))
            self._listening.append(asyncio.create_task(self._listen(worker)))
        ready = [asyncio.create_task(worker.ready.wait()) for worker in self._workers]
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._while_listening(ready)
        except TimeoutError as error:
            raise WorkerError(f"workers were not ready in {READY_TIMEOUT_S:g} s") from error
        finally:
            for task in ready:
                task.cancel()

    async def play(self, at: float) -> None:
        self._tell(Order(begin=at))
        closing = asyncio.create_task(self._close_with_gate())
        try:
            await asyncio.gather(*self._listening)
        finally:
            closing.cancel()
        reasons = [worker.done.reason for worker in self._workers if worker.done is not None]
        if not self._gate.closed and (told := [r for r in reasons if r != "traces played"]):
            self._gate.close(told[0])

    def offer(self, users: int) -> None:
        self._tell(Order(users=users))

    def clock(self) -> float:
        playing = [worker.heard_until for worker in self._workers if worker.done is None]
        return min(playing, default=time.monotonic())

    def measured(self) -> list[Measured]:
        return [worker.done.measured for worker in self._workers if worker.done is not None]

    async def close(self) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        for worker in self._workers:
            worker.writer.close()
            await _stop(worker.child)
            worker.errors.close()

    def _tell(self, order: Order) -> None:
        for worker in self._workers:
            worker.order(order)

    async def _close_with_gate(self) -> None:
        await self._gate.wait_closed()
        self._tell(Order(close=self._gate.reason))

    async def _while_listening(self, waits: Sequence["asyncio.Task[bool]"]) -> None:
        """Until all of `waits` are over; raises what ended a worker before."""
        left = set(waits)
        while left:
            over, _ = await asyncio.wait(
                [*left, *self._listening], return_when=asyncio.FIRST_COMPLETED
            )
            for task in over & set(self._listening):
                task.result()
            left -= over

    async def _listen(self, worker: _Worker) -> None:
        try:
            while worker.done is None:
                self._hear(worker, REPORTS.decode(await read_frame(worker.reader)))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(worker.child.wait(), STOP_TIMEOUT_S)
            raise worker.lost() from error

    def _hear(self, worker: _Worker, report: Report) -> None:
        for sample in report.sent:
            sample.worker = worker.number
            self._ledger.sent(sample)
        flying = self._ledger.progress.flying
        for under in report.under_way:
            sample = flying[under.conversation, under.agent, under.turn]
            sample.t_first_token, sample.status = under.t_first_token, under.status
        for sample in report.ended:
            sample.worker = worker.number
            self._ledger.ended(sample)
        worker.heard_until = report.until
        if report.ready:
            worker.ready.set()
        worker.done = report.done


async def _start(number: int, job: Job) -> _Worker:
    ours, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the crew
    with theirs:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadgen.workers.worker", str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL, stdout=errors, stderr=errors,
            pass_fds=(theirs.fileno(),),
        )  # fmt: skip
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(frame(job.pack()))
    return _Worker(number, child, reader, writer, errors)


async def _stop(child: asyncio.subprocess.Process) -> None:
    """Its socket is closed; that it ends by itself is not relied on."""
    for stop in (None, child.terminate, child.kill):
        if child.returncode is not None:
            return
        if stop is not None:
            with contextlib.suppress(ProcessLookupError):
                stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), STOP_TIMEOUT_S)
