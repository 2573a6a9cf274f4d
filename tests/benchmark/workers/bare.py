"""What two processes take to ask and answer over a Unix socket when nobody does anything for it:
the least that the hop can take on this machine, as busy as it is.

`python -m tests.benchmark.workers.bare SECONDS` prints a JSON list of the round trips, in us.
"""

import asyncio
import json
import sys
import tempfile
import time
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

# As many bytes as a small prompt's question and its answer, as often as paced.py asks.
ASKED, ANSWERED, EVERY_S = 900, 250, 0.01


class Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.size = transport, 0

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        if self.size >= ASKED:
            self.size -= ASKED
            self.transport.write(bytes(ANSWERED))  # type: ignore[attr-defined]


class Asking(asyncio.Protocol):
    def __init__(self) -> None:
        self.took_us: list[float] = []
        self.size, self.at = 0, 0
        self.answered = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self) -> None:
        self.answered.clear()
        self.at = time.monotonic_ns()
        self.transport.write(bytes(ASKED))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        if self.size >= ANSWERED:
            self.size -= ANSWERED
            self.took_us.append((time.monotonic_ns() - self.at) / 1e3)
            self.answered.set()


async def answer(path: str, ready: Connection) -> None:
    server = await asyncio.get_running_loop().create_unix_server(Answering, path)
    ready.send(True)
    await server.serve_forever()


async def ask(path: str, seconds: float) -> list[float]:
    loop, asking = asyncio.get_running_loop(), Asking()
    transport, _ = await loop.create_unix_connection(lambda: asking, path)
    due, until = loop.time(), loop.time() + seconds
    while due < until:
        await asyncio.sleep(max(0.0, due - loop.time()))
        due += EVERY_S
        asking.ask()
        await asking.answered.wait()
    transport.close()
    return asking.took_us


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, (began, ready) = str(Path(folder, "bare")), Pipe(duplex=False)
        other = Process(target=lambda: uvloop.run(answer(path, ready)))
        other.start()
        try:
            began.recv()
            print(json.dumps(uvloop.run(ask(path, seconds))))
        finally:
            other.kill()
            other.join()


if __name__ == "__main__":
    main(float(sys.argv[1]))
