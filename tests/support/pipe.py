"""A transport without a socket: what a client sends, takes and does not take, one step at a time.

As strict as uvloop's: a write behind the end of writing, or anything that needs a connection which
is gone, is an error.
"""

import asyncio
from typing import Any

HIGH, LOW = 2**16, 2**14


class Pipe(asyncio.Transport):
    """Between `protocol` and a client that the test plays."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._unsent = 0
        self._unread: list[bytes] = []
        self._over = False  # the client sends no more
        self._vanished = False
        self._reading = True
        self._closing = self._ended = self._lost = self._pressed = False
        self.gone = False
        self.unsent_max = 0
        self.written = bytearray()
        protocol.connection_made(self)

    # What the client does.

    def client_sends(self, data: bytes) -> None:
        self._unread.append(data)
        self._deliver()

    def client_closes(self) -> None:
        self._over = True
        self._deliver()

    def client_resets(self) -> None:
        self._unread.clear()
        self._unsent = 0
        self._lose(ConnectionResetError())

    def client_vanishes(self) -> None:
        """Nobody hears of it before something is written."""
        self._unread.clear()
        self._vanished = True

    def client_takes(self, count: int) -> None:
        self._unsent = max(0, self._unsent - count)
        if self._pressed and self._unsent <= LOW:
            self._pressed = False
            self._protocol.resume_writing()
        if self._closing and not self._unsent:
            self._lose(None)

    def _deliver(self) -> None:
        while self._reading and self._unread and not self._closing:
            self._protocol.data_received(self._unread.pop(0))
        ended = self._over and self._reading and not self._unread and not self._closing
        if ended and not self._protocol.eof_received():
            self.close()

    def _lose(self, why: Exception | None) -> None:
        self._closing = True
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._gone, why)

    def _gone(self, why: Exception | None) -> None:
        self.gone = True
        self._protocol.connection_lost(why)

    # What the protocol does.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._ended or self.gone:
            raise RuntimeError("written behind the end")
        if self._lost or not data:
            return
        if self._vanished:
            self._lose(BrokenPipeError())
            return
        self.written += data
        self._unsent += len(data)
        self.unsent_max = max(self.unsent_max, self._unsent)
        if self._unsent > HIGH and not self._pressed:
            self._pressed = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        if self.gone:
            raise RuntimeError("the end of what is gone")
        self._ended = True

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        return self._reading

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        if not self._unsent:
            self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            if self.gone:
                raise OSError("the socket of what is gone")
            return self
        return default

    def setsockopt(self, *_option: Any) -> None:
        """What is set means nothing here."""
