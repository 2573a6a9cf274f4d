"""A whole proxy at default settings whose connections have no sockets: requests go in as bytes and
answers come out as bytes, so that what kvproxy itself does for a request can be counted."""

import asyncio
from collections.abc import Callable, Generator, Iterable

from kvproxy.adapters.http1.connection import ClientConnection
from kvproxy.adapters.http1.link import Link
from kvproxy.adapters.http1.pool import Pool
from kvproxy.app import App
from kvproxy.core.life_cycle import Evidence
from kvproxy.settings.model import Settings

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:9100\r\n"
    b"Content-Type: application/json\r\nAccept: */*\r\nUser-Agent: load/1\r\n"
    b"Authorization: Bearer sk-1234\r\nX-Session-ID: %b\r\nContent-Length: %d\r\n\r\n"
)
_SAID = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{'
    b'"prompt_tokens":%d,"completion_tokens":5,"total_tokens":9,"prompt_tokens_details":{'
    b'"cached_tokens":%d}}}'
)
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
_LAST = (
    b'data: {"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":9,'
    b'"prompt_tokens_details":{"cached_tokens":%d}}}\n\ndata: [DONE]\n\n'
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def request(session: str, body: bytes) -> bytes:
    return HEAD % (session.encode(), len(body)) + body


def answer(prompt_tokens: int, cached_tokens: int) -> bytes:
    said = _SAID % (prompt_tokens, cached_tokens)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(said) + said


def chunk(data: bytes = EVENT) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_end(prompt_tokens: int, cached_tokens: int) -> bytes:
    return chunk(_LAST % (prompt_tokens, cached_tokens)) + b"0\r\n\r\n"


class Wire(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written.append(data)

    def writelines(self, list_of_data: Iterable[object]) -> None:
        self.written += list_of_data  # type: ignore[arg-type]

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


class Later:
    """The loop's next turn: asyncio.sleep(0), which would be counted."""

    def __await__(self) -> Generator[None]:
        yield


async def eventually(done: Callable[[], bool]) -> None:
    """Within few turns of the loop: nothing here waits for anything outside."""
    for _ in range(20):
        if done():
            return
        await Later()
    raise AssertionError("it waits for something")


class Unplugged:
    """One client connection to a proxy of `replicas` ready replicas. Needs a running loop."""

    def __init__(self, replicas: int = 4, **settings: object) -> None:
        urls = [f"http://127.0.0.1:{9000 + n}" for n in range(replicas)]
        tree = {"replicas": urls, "log": {"access": False}, "probe": {"interval_s": 1000}}
        self.app = App(Settings.model_validate({**tree, **settings}))
        self.links: list[Link] = []
        upstream = self.app._upstream
        for replica in self.app.router.replicas:
            replica.see(Evidence.PROBE_OK, 0.0)
            self._unplug(upstream._pool(replica))
        self.client = self.new_client()
        self.asked: list[Link] = []

    def new_client(self) -> ClientConnection:
        client = ClientConnection(self.app.server)
        client.connection_made(Wire())
        return client

    async def ask(self, raw: bytes, client: ClientConnection | None = None) -> Link:
        """The connection on which a replica was asked."""
        (client or self.client).data_received(raw)
        await eventually(lambda: bool(self.asked))
        # What a replica answers comes in a later turn of the loop.
        await Later()
        return self.asked.pop()

    async def exchange(self, raw: bytes, answered: bytes) -> bytes:
        """What the client gets for `raw` where a replica says `answered`."""
        link = await self.ask(raw)
        link.data_received(answered)
        await eventually(lambda: not self.app.server.in_flight)
        wire = self.client._transport
        assert isinstance(wire, Wire)
        said = b"".join(wire.written)
        wire.written.clear()
        return said

    def _unplug(self, pool: Pool) -> None:
        outer = self

        class Asked(Wire):
            def __init__(self, link: Link) -> None:
                super().__init__()
                self.link = link

            def writelines(self, list_of_data: Iterable[object]) -> None:
                self.written[:] = list_of_data  # type: ignore[assignment]
                outer.asked.append(self.link)

        async def connect() -> Link:
            link = Link(pool._replica, 600.0, pool._deadlines, pool._turns)
            link.connection_made(Asked(link))
            self.links.append(link)
            return link

        pool.connect = connect  # type: ignore[method-assign]
