"""A TCP proxy that does to connections what networks and dying hosts do.

It stands between a client and a server of any protocol; `fault` may change while connections live.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from random import Random

_RESET = struct.pack("ii", 1, 0)
_READ_BYTES = 2**16


class Kind(StrEnum):
    """What happens to bytes on their way back to the client, unless it says otherwise."""

    NONE = "none"
    REFUSE = "refuse"  # new connections are reset at once
    RESET = "reset"  # after `after` bytes the client sees a reset
    TRUNCATE = "truncate"  # after `after` bytes the client sees an orderly end
    STALL = "stall"  # after `after` bytes nothing more comes, and the connection stays
    HALF_CLOSE = "half_close"  # our side towards the server ends after the request's first bytes
    SLOW = "slow"  # `delay_s` before every piece of `piece` bytes
    GARBAGE = "garbage"  # after `after` bytes random ones follow
    DRIBBLE = "dribble"  # one byte a write, both ways


_CUTS = (Kind.RESET, Kind.TRUNCATE, Kind.STALL, Kind.GARBAGE)


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind = Kind.NONE
    after: int = 0
    delay_s: float = 0.002
    piece: int = 64


NOTHING = Fault()


class FaultProxy:
    """Listens on a port of its own in front of `host:port`."""

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.fault = NOTHING
        self.accepted = 0
        self._to = (host, port)
        self._random = Random(seed)
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.accepted += 1
        server: asyncio.StreamWriter | None = None
        try:
            if self.fault.kind is Kind.REFUSE:
                _reset(writer)
                return
            back, server = await asyncio.open_connection(*self._to)
            up = asyncio.create_task(self._up(reader, server))
            down = asyncio.create_task(self._down(back, writer))
            try:
                # A client that leaves ends both; a server that has said all ends what it says.
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                if up.done() and not down.done() and self.fault.kind is Kind.HALF_CLOSE:
                    await down
            finally:
                for half in (up, down):
                    half.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        except OSError:
            _reset(writer)
        except asyncio.CancelledError:
            # Stopped: asyncio's streams ask whoever serves them how it failed, which raises of one
            # that was cancelled.
            pass
        finally:
            self._running.discard(task)
            for end in (writer, server):
                if end is not None:
                    end.close()

    async def _up(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await reader.read(_READ_BYTES):
            await self._write(server, data)
            if self.fault.kind is Kind.HALF_CLOSE:
                with suppress(OSError):
                    server.write_eof()
                return

    async def _down(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await back.read(_READ_BYTES):
            fault = self.fault
            if fault.kind in _CUTS and passed + len(data) > fault.after:
                await self._write(writer, data[: max(0, fault.after - passed)])
                await self._spoil(writer)
                return
            passed += len(data)
            await self._write(writer, data)
        writer.close()

    async def _spoil(self, writer: asyncio.StreamWriter) -> None:
        match self.fault.kind:
            case Kind.RESET:
                _reset(writer)
            case Kind.GARBAGE:
                writer.write(self._random.randbytes(4096))
                await writer.drain()
            case Kind.STALL:
                await asyncio.Event().wait()
            case _:
                writer.close()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        fault = self.fault
        piece = {Kind.SLOW: fault.piece, Kind.DRIBBLE: 1}.get(fault.kind, len(data) or 1)
        for at in range(0, len(data), piece):
            if fault.kind is Kind.SLOW:
                await asyncio.sleep(fault.delay_s)
            writer.write(data[at : at + piece])
            await writer.drain()
            if piece < len(data):
                # A turn of the loop for whoever reads: pieces must not melt into one.
                await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    connected = writer.get_extra_info("socket")
    with suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@asynccontextmanager
async def faulty(url: str, fault: Fault = NOTHING, *, seed: int = 0) -> AsyncIterator[FaultProxy]:
    """One in front of the server at `url`."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    proxy = FaultProxy(host, int(port), seed=seed)
    await proxy.start()
    proxy.fault = fault
    try:
        yield proxy
    finally:
        await proxy.stop()
