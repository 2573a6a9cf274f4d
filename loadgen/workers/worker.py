"""One worker: `python -m loadgen.workers.worker FD` plays its share and reports all of it.

It never outlives the run that started it: the end of the socket is its end.
"""

import asyncio
import gc
import socket
import sys
import time
from collections.abc import Iterator

import uvloop

from loadgen.force import Alone, until_over
from loadgen.hopping import wire_to
from loadgen.players import Players, stage_of
from loadgen.sample import Sample
from loadgen.session import Gate
from loadgen.workers.messages import ORDERS, Done, Job, Order, Report, Under, message, read_frame

REPORT_S = 0.02
Key = tuple[str, str, int]


class Reporter:
    """Puts what is heard together into reports; those of a ramp also follow what is in flight."""

    def __init__(self, *, follows: bool) -> None:
        self._follows = follows
        self._flying: dict[Key, Sample] = {}
        self._told: dict[Key, tuple[float | None, int]] = {}
        self._sent: list[Sample] = []
        self._ended: list[Sample] = []

    def sent(self, sample: Sample) -> None:
        self._flying[sample.key] = sample
        self._told[sample.key] = (None, 0)
        self._sent.append(sample)

    def ended(self, sample: Sample) -> None:
        del self._flying[sample.key], self._told[sample.key]
        self._ended.append(sample)

    def report(self) -> Report:
        """A request that began and ended since the last one is in both lists."""
        report = Report(time.monotonic(), sent=self._sent, ended=self._ended)
        if self._follows:
            report.under_way = list(self._news())
        self._sent, self._ended = [], []
        return report

    def _news(self) -> Iterator[Under]:
        for key, sample in self._flying.items():
            now = (sample.t_first_token, sample.status)
            if self._told[key] != now:
                self._told[key] = now
                yield Under(*key, *now)


class Worker:
    """`run` plays the job from the order to begin until the gate is closed, here or by order."""

    def __init__(
        self, job: Job, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._job = job
        self._reader = reader
        self._writer = writer
        self._gate = Gate(job.requests)
        self._begin: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._reporter = Reporter(follows=job.settings.ramp is not None)
        self._wire = wire_to(job.settings.url, job.settings.also)
        stage = stage_of(
            job.settings, job.traces, self._wire, (job.asking, job.content),
            started=job.started, witness=self._reporter, gate=self._gate, past=job.past,
        )  # fmt: skip
        self._force = Alone(Players(job.settings, job.traces, stage, job.share))

    async def run(self) -> None:
        await self._force.prepare()
        # What lives as long as the run need not be searched for garbage during it.
        gc.collect()
        gc.freeze()
        self._tell(Report(time.monotonic(), ready=True))
        orders = asyncio.create_task(self._listen())
        reports = asyncio.create_task(self._report())
        try:
            users = asyncio.create_task(self._play())
            grace_s = self._job.settings.grace_s
            await until_over(users, self._gate, lasts_s=None, grace_s=grace_s)
        finally:
            orders.cancel()
            reports.cancel()
            self._wire.close()
        last = self._reporter.report()
        last.done = Done(self._gate.reason, self._force.measured()[0])
        self._tell(last)
        await self._writer.drain()
        self._writer.close()
        await self._writer.wait_closed()

    async def _play(self) -> None:
        await self._force.play(await self._begin)

    async def _listen(self) -> None:
        try:
            while True:
                self._obey(ORDERS.decode(await read_frame(self._reader)))
        except (asyncio.IncompleteReadError, ConnectionError):
            # Nobody is left to hear what would come of these requests.
            self._gate.close("run ended")
            sys.exit(1)

    def _obey(self, order: Order) -> None:
        if order.begin is not None and not self._begin.done():
            self._begin.set_result(order.begin)
        if order.users is not None:
            self._force.offer(order.users)
        if order.close is not None:
            self._gate.close(order.close)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._tell(self._reporter.report())

    def _tell(self, report: Report) -> None:
        self._writer.write(message(report))


async def main(link: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=link)
    job = Job.unpack(await read_frame(reader))
    await Worker(job, reader, writer).run()


if __name__ == "__main__":
    uvloop.run(main(socket.socket(fileno=int(sys.argv[1]))))
