"""A replica that writes down what it receives, byte by byte, and plays back what it is told to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

import orjson

from tests.support.wire import RawHeaders, read_body, read_headers


class Mark(Enum):
    """Instead of bytes: end the connection here, or stay silent until the client leaves."""

    CUT = "cut"
    HOLD = "hold"


# An event is waited for before what comes behind it is sent.
Piece = bytes | asyncio.Event | Mark
Answer = Sequence[Piece]


@dataclass(eq=False)
class Received:
    """One request; `gone_at` is the loop's time when its client left before the answer's end."""

    method: str
    target: str
    headers: RawHeaders
    body: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    gone_at: float = 0.0


def answer(
    body: bytes = b"{}",
    *,
    status: str = "200 OK",
    headers: RawHeaders | None = None,
    chunk: int = 0,
    chunked: bool = False,
) -> list[Piece]:
    """An answer whose body leaves `chunk` bytes at a time, 0 = all at once.

    `chunked` frames each of them as a chunk; otherwise the head states the length.
    """
    headers = [(b"content-type", b"application/json")] if headers is None else headers
    framing = (
        (b"Transfer-Encoding", b"chunked")
        if chunked
        else (b"Content-Length", str(len(body)).encode())
    )
    lines = [f"HTTP/1.1 {status}".encode()]
    lines += [name + b": " + value for name, value in [*headers, framing]]
    pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)] if chunk else [body]
    if chunked:
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece]
        pieces.append(b"0\r\n\r\n")
    return [b"\r\n".join(lines) + b"\r\n\r\n", *pieces]


class RecordingReplica:
    """Answers probes by itself; everything else goes to `received` and gets `script(request)`."""

    def __init__(self, models: Sequence[str] = (), metrics: bytes = b"") -> None:
        self.models = models
        self.metrics = metrics
        self.received: list[Received] = []
        self.script: Callable[[Received], Answer] = lambda received: answer()
        self.arrived = asyncio.Event()
        self.url = ""
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=2**24)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop listening and break all connections, as a killed process does."""
        if self._server is not None:
            self._server.close()
            # Whoever was let in just now has a task that did not begin.
            await asyncio.sleep(0)
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()
            # Transports close their sockets in the next turn of the loop.
            await asyncio.sleep(0)
            self._server = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def next(self) -> Received:
        """Waits for a request that has not been looked at."""
        await self.arrived.wait()
        self.arrived.clear()
        return self.received[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        head = asyncio.create_task(read_headers(reader))
        try:
            while True:
                first, headers = await head
                method, target, _ = first.decode("latin-1").split(" ")
                received = Received(
                    method, target, headers, await read_body(reader, headers, to_end=False)
                )
                # The next head is awaited beside the answer: it tells when the client leaves.
                head = asyncio.create_task(read_headers(reader))
                if not await self._play(received, head, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            head.cancel()
            await asyncio.gather(head, return_exceptions=True)
            writer.close()

    async def _play(
        self,
        received: Received,
        head: asyncio.Task[tuple[bytes, RawHeaders]],
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Whether the connection goes on."""
        pieces = self._page(received)
        if pieces is None:
            self.received.append(received)
            self.arrived.set()
            pieces = self.script(received)
        if received.method == "HEAD":
            pieces = pieces[:1]
        playing = asyncio.create_task(_write(pieces, writer))
        try:
            await asyncio.wait({playing, head}, return_when=asyncio.FIRST_COMPLETED)
            if not playing.done() or playing.exception() is not None:
                received.gone_at = asyncio.get_running_loop().time()
                received.gone.set()
                return False
            return playing.result()
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

    def _page(self, received: Received) -> Answer | None:
        if received.method != "GET":
            return None
        if received.target == "/health":
            return answer(b"")
        if received.target == "/metrics":
            return answer(self.metrics)
        if received.target == "/v1/models":
            cards = [{"id": name, "object": "model"} for name in self.models]
            return answer(orjson.dumps({"object": "list", "data": cards}))
        if received.target in ("/kv_event_sources", "/server_info"):
            return answer(status="404 Not Found")
        return None


async def _write(pieces: Answer, writer: asyncio.StreamWriter) -> bool:
    for piece in pieces:
        if piece is Mark.CUT:
            return False
        if piece is Mark.HOLD:
            piece = asyncio.Event()
        assert not isinstance(piece, Mark)
        if isinstance(piece, asyncio.Event):
            await piece.wait()
            continue
        writer.write(piece)
        await writer.drain()
        # A turn of the loop for the reader: pieces must not melt into one segment.
        await asyncio.sleep(0)
    return True


@asynccontextmanager
async def recording(
    count: int = 1, models: Sequence[str] = (), metrics: bytes = b""
) -> AsyncIterator[list[RecordingReplica]]:
    replicas = [RecordingReplica(models, metrics) for _ in range(count)]
    try:
        for replica in replicas:
            await replica.start()
        yield replicas
    finally:
        for replica in replicas:
            await replica.stop()
