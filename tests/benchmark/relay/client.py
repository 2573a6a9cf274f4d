"""A closed loop of keep-alive connections: `python -m tests.benchmark.relay.client PORT WORKLOAD`.

Prints one JSON line: requests, chunks, seconds, and percentiles of first tokens and of the way of
a chunk from the mock's clock to here, in microseconds.
"""

import asyncio
import json
import random
import re
import sys
import time
from dataclasses import dataclass

import uvloop

STAMP = re.compile(rb"@(\d+)@")
WORDS = "def run(self, ; return value ;error: ;import cache ;if x is None: ;/src/app.py ;done. "


@dataclass(frozen=True)
class Workload:
    """`body_kb` of a conversation at its first turn; 0 for single small requests. A conversation
    grows by `grow_kb` a turn for `turns` turns."""

    name: str
    connections: int
    seconds: float = 0.0
    requests: int = 0
    stream: bool = True
    body_kb: int = 0
    turns: int = 10
    grow_kb: int = 10
    chunks: int = 50
    ttft_us: int = 0
    itl_us: int = 0


WORKLOADS = {
    w.name: w
    for w in (
        Workload("W1", 32, seconds=3.0, stream=False),
        Workload("W2", 16, seconds=3.0, body_kb=360),
        Workload("W2p", 16, seconds=4.0, body_kb=360, ttft_us=20_000, itl_us=5_000),
        Workload("W3p", 64, requests=128, chunks=200, itl_us=10_000),
        Workload("W4", 1, requests=100, body_kb=400, turns=1, chunks=5),
        Workload("W5", 4, requests=500, stream=False, body_kb=400, turns=1, chunks=2),
    )
}


def text(kilobytes: float, seed: int) -> str:
    words, chance, found, size = WORDS.split(";"), random.Random(seed), [], 0
    while size < kilobytes * 1024:
        found.append(chance.choice(words) + str(chance.getrandbits(30)) + " ")
        size += len(found[-1])
    return "".join(found)


class Conversations:
    """Bodies as agents send them: the whole conversation every turn, a little more each time."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.made = 0
        self.tools = [
            {"type": "function", "function": {"name": f"tool_{i}", "description": text(1.2, i)}}
            for i in range(24)
        ]
        self.long = text(self.workload.body_kb, 7) if workload.body_kb else ""

    def turns(self) -> "list[bytes]":
        """One conversation, its bodies; another one every time."""
        workload, number = self.workload, self.made
        self.made += 1
        fixed = {"model": "mock", "stream": workload.stream, "max_tokens": 64}
        if not workload.body_kb:
            messages = [{"role": "user", "content": f"{number} {text(0.8, number % 50)}"}]
            return [dump({**fixed, "messages": messages})]
        # Without a seed of its own a conversation would share its text with all others.
        body = f"{number} {self.long}"
        cut = len(body) // 80
        messages = [
            {"role": "assistant" if i % 2 else "user", "content": body[i * cut : (i + 1) * cut]}
            for i in range(80)
        ]
        messages[0]["role"] = "system"
        found = []
        for turn in range(workload.turns):
            found.append(dump({**fixed, "tools": self.tools, "messages": messages}))
            for role in ("assistant", "user"):
                added = text(workload.grow_kb / 2, number * 100 + turn)
                messages = [*messages, {"role": role, "content": added}]
        return found


def dump(body: dict[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


@dataclass
class Seen:
    requests: int = 0
    chunks: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self.first_us: list[float] = []
        self.delay_us: list[float] = []


class Client(asyncio.Protocol):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.loop = asyncio.get_running_loop()

    def ask(self, body: bytes, session: str) -> "asyncio.Future[None]":
        self.done = self.loop.create_future()
        self.end: tuple[str, int] | None = None
        self.tail, self.size, self.first = b"", 0, False
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer sk-1\r\n"
            "Content-Type: application/json\r\nAccept: */*\r\nUser-Agent: bench/1\r\n"
            f"X-Session-ID: {session}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.began = time.monotonic_ns()
        self.transport.writelines([head.encode(), body])
        return self.done

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        for stamp in STAMP.findall(data):
            self.seen.delay_us.append((now - int(stamp)) / 1e3)
            self.seen.chunks += 1
        if self.end is None:
            head, _, data = data.partition(b"\r\n\r\n")
            self.seen.failed += not head.startswith(b"HTTP/1.1 200")
            length = re.search(rb"content-length: (\d+)", head.lower())
            self.end = ("size", int(length[1])) if length else ("chunk", 0)
        self.size += len(data)
        self.tail = (self.tail + data)[-7:]
        if not self.first and data:
            self.first = True
            self.seen.first_us.append((now - self.began) / 1e3)
        kind, size = self.end
        if (kind == "size" and self.size >= size) or (
            kind == "chunk" and self.tail.endswith(b"\r\n0\r\n\r\n")
        ):
            self.seen.requests += 1
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.seen.failed += 1
            self.done.set_exception(ConnectionResetError())


async def drive(port: int, workload: Workload) -> dict[str, object]:
    seen, loop = Seen(), asyncio.get_running_loop()
    conversations = Conversations(workload)
    ready = [conversations.turns() for _ in range(workload.connections)]
    until = loop.time() + workload.seconds if workload.seconds else float("inf")
    left = workload.requests or 10**9

    async def one(number: int) -> None:
        nonlocal left
        _, client = await loop.create_connection(lambda: Client(seen), "127.0.0.1", port)
        bodies, played = ready[number], 0
        while left > 0 and loop.time() < until:
            for body in bodies[number % len(bodies) if not played else 0 :]:
                if left <= 0 or loop.time() >= until:
                    break
                left -= 1
                await client.ask(body, f"s{number}-{played}")
            bodies, played = conversations.turns(), played + 1
        client.transport.close()

    began = time.monotonic()
    await asyncio.gather(*(one(number) for number in range(workload.connections)))
    return {
        "requests": seen.requests,
        "failed": seen.failed,
        "chunks": seen.chunks,
        "seconds": time.monotonic() - began,
        **{f"first_us_p{q}": percentile(seen.first_us, q) for q in (50, 99)},
        **{f"delay_us_p{q}": percentile(seen.delay_us, q) for q in (50, 99)},
    }


def percentile(values: list[float], q: int) -> float:
    return sorted(values)[round(q / 100 * (len(values) - 1))] if values else 0.0


if __name__ == "__main__":
    print(json.dumps(uvloop.run(drive(int(sys.argv[1]), WORKLOADS[sys.argv[2]]))))
