"""A chat endpoint in a process of its own with a true time to first token and a true token rate.

It measures itself: GET /truth says when first tokens really left, counted from the last byte of
the request, so that what a client adds can be told from what the machine adds.
"""

import argparse
import asyncio
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import orjson
import uvloop

TTFT_S = 0.020
TOKENS_PER_S = 500
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MAX_TOKENS = re.compile(rb'"max_(?:completion_|output_)?tokens": *(\d+)')


def _chunked(payload: bytes) -> bytes:
    data = b"data: " + payload + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"x-request-id: mock\r\n\r\n"
)
_OPENING = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock",'
_ROLE = _chunked(
    _OPENING + b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},'
    b'"logprobs":null,"finish_reason":null}]}'
)
_TOKEN = _chunked(
    _OPENING + b'"choices":[{"index":0,"delta":{"content":" the"},'
    b'"logprobs":null,"finish_reason":null}]}'
)


def _closing(tokens: int) -> bytes:
    usage = b'"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d}}' % tokens
    stop = b'"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}'
    return (
        _chunked(_OPENING + stop) + _chunked(_OPENING + usage) + _chunked(b"[DONE]") + b"0\r\n\r\n"
    )


class _Clock:
    """Every open stream, written to once a tick."""

    def __init__(self) -> None:
        self.streams: set[_Connection] = set()
        self.delays_s: list[float] = []
        self.tokens = 0

    async def tick(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + 1 / TOKENS_PER_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            now = time.monotonic()
            for stream in list(self.streams):
                stream.write_due(now)

    def truth(self) -> bytes:
        mean = sum(self.delays_s) / max(1, len(self.delays_s))
        answer = {"requests": len(self.delays_s), "ttft_mean_s": mean, "tokens": self.tokens}
        self.delays_s, self.tokens = [], 0
        return orjson.dumps(answer)


class _Connection(asyncio.Protocol):
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._tail = b""
        self._missing = 0
        self._asked_at = 0.0
        self._sent = self._wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._clock.streams.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._head, 0, end)
            self._missing = int(length[1]) if length else 0
            data = self._head[end + 4 :]
        self._missing -= len(data)
        self._tail = (self._tail + data[-512:])[-512:]
        if self._missing == 0:
            self._answer()

    def _answer(self) -> None:
        assert self._transport is not None
        path = self._head.split(b" ", 2)[1]
        tail, self._head, self._tail = self._tail, b"", b""
        if path == b"/v1/chat/completions":
            found = _MAX_TOKENS.search(tail)
            self._wanted, self._sent = int(found[1]) if found else 16, 0
            self._asked_at = time.monotonic()
            asyncio.get_running_loop().call_later(TTFT_S, self._first)
            return
        bodies = {b"/v1/models": b'{"data":[{"id":"mock"}]}'}
        body = self._clock.truth() if path == b"/truth" else bodies.get(path)
        status = b"404 Not Found" if body is None else b"200 OK"
        head = b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n" % (status, len(body or b""))
        self._transport.write(head + (body or b""))

    def _first(self) -> None:
        if self._transport is None:
            return
        self._clock.delays_s.append(time.monotonic() - self._asked_at)
        self._transport.write(_HEAD + _ROLE + _TOKEN)
        self._sent = 1
        self._clock.tokens += 1
        self._clock.streams.add(self)

    def write_due(self, now: float) -> None:
        assert self._transport is not None
        due = 1 + int((now - self._asked_at - TTFT_S) * TOKENS_PER_S)
        fresh = min(due, self._wanted) - self._sent
        data = _TOKEN * max(0, fresh)
        self._sent += max(0, fresh)
        self._clock.tokens += max(0, fresh)
        if self._sent >= self._wanted:
            data += _closing(self._wanted)
            self._clock.streams.discard(self)
        if data:
            self._transport.write(data)


async def _serve() -> None:
    clock = _Clock()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(clock), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await clock.tick()


@contextlib.contextmanager
def token_mock() -> Iterator[str]:
    """The URL of a mock that runs until the block ends."""
    command = [sys.executable, "-m", "tests.support.token_mock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    uvloop.run(_serve())
