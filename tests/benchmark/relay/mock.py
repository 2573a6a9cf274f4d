"""An engine that costs next to nothing: `python -m tests.benchmark.relay.mock PORT...`.

Its cache holds 160,000 tokens, and its streams end without usage, as those of engines do that were
not asked for it.

GET /_script?chunks=50&ttft_us=0&itl_us=0 says how the next answers come. Chunks carry the moment
they were written, `@ns@` of the monotonic clock.
"""

import asyncio
import sys
import time
from urllib.parse import parse_qsl, urlsplit

import uvloop

SCRIPT = {"chunks": 50, "ttft_us": 0, "itl_us": 0}
MODELS = b'{"object":"list","data":[{"id":"mock","object":"model","owned_by":"mock"}]}'
USAGE = (
    b'{"prompt_tokens":%d,"completion_tokens":9,"total_tokens":9,'
    b'"prompt_tokens_details":{"cached_tokens":%d}}'
)
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock",'
    b'"choices":[{"index":0,"delta":{"content":"@%d@"},"finish_reason":null}]}\n\n'
)
DONE = b"data: [DONE]\n\n"
METRICS = (
    b"# TYPE vllm:num_requests_waiting gauge\n"
    b'vllm:num_requests_waiting{engine="0",model_name="mock"} 0\n'
    b"# TYPE vllm:cache_config_info gauge\n"
    b'vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="10000",'
    b'enable_prefix_caching="True"} 1\n'
)


def whole(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Engine(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.head, self.left, self.size, self.stream = b"", 0, 0, False
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
            if not self.left:
                self.answer()
            return
        self.head += data
        if (end := self.head.find(b"\r\n\r\n")) < 0:
            return
        head, body, self.head = self.head[:end], self.head[end + 4 :], b""
        if head.startswith(b"GET "):
            self.page(head.split(b" ", 2)[1].decode())
            return
        self.size = self._length(head)
        self.stream = b'"stream":true' in body[:200]
        self.left = self.size - len(body)
        if not self.left:
            self.answer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def _length(self, head: bytes) -> int:
        at = head.lower().index(b"\r\ncontent-length:") + 17
        return int(head[at:].split(b"\r\n", 1)[0])

    def page(self, target: str) -> None:
        url = urlsplit(target)
        if url.path == "/_script":
            SCRIPT.update({name: int(value) for name, value in parse_qsl(url.query)})
        found = {
            "/v1/models": MODELS,
            "/version": b'{"version":"0.33.0"}',
            "/metrics": METRICS,
        }
        self.transport.write(whole(found.get(url.path, b"")))

    def answer(self) -> None:
        if not self.stream:
            tokens = max(1, self.size // 4)
            text = b'{"id":"chatcmpl-1","choices":[{"index":0,"message":{"role":"assistant",'
            text += b'"content":"hello"}}],"usage":' + USAGE % (tokens, 0) + b"}"
            self.transport.write(whole(text))
        elif SCRIPT["itl_us"] or SCRIPT["ttft_us"]:
            wait_s = SCRIPT["ttft_us"] / 1e6
            self.loop.call_later(wait_s, self.step, SCRIPT["chunks"], HEAD)
        else:
            chunks = [framed(CHUNK % time.monotonic_ns()) for _ in range(SCRIPT["chunks"])]
            self.transport.writelines([HEAD, *chunks, framed(DONE) + b"0\r\n\r\n"])

    def step(self, left: int, before: bytes) -> None:
        if self.transport is None:
            return
        if left:
            self.transport.write(before + framed(CHUNK % time.monotonic_ns()))
            self.loop.call_later(SCRIPT["itl_us"] / 1e6, self.step, left - 1, b"")
        else:
            self.transport.write(framed(DONE) + b"0\r\n\r\n")


async def main(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Engine, "127.0.0.1", port) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(main([int(port) for port in sys.argv[1:]]))
