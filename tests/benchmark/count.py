"""What kvproxy runs for a request, counted: `python -m tests.benchmark.count [WORKLOAD [TOP]]`.

Bytecodes and calls of a whole proxy without sockets, by function. They are the same on every
machine whatever else it does, so tests hold them to budgets.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext

import uvloop

from tests.support.counting import Counting
from tests.support.unplugged import (
    STREAM_HEAD,
    Unplugged,
    Wire,
    answer,
    chunk,
    request,
    stream_end,
)

LINE = "def run(self): return 1 "
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


def small(number: int, *, stream: bool = False) -> bytes:
    """As W1: 1 KB, a conversation that repeats itself."""
    messages = [SYSTEM, {"role": "user", "content": f"{number} {LINE * 33}"}]
    return dump({"model": "mock", "stream": stream, "max_tokens": 64, "messages": messages})


def large(number: int, turn: int) -> bytes:
    """As W2: some 400 KB that grow by 8 KB a turn. Nothing is shared: first turns find nothing."""
    messages = [{"role": "system", "content": f"You are agent {number}. " * 400}]
    for index in range(90 + 2 * turn):
        role = "assistant" if index % 2 else "user"
        messages.append({"role": role, "content": f"{number} {index} {LINE * 170}"})
    return dump({"model": "mock", "stream": True, "max_tokens": 64, "messages": messages})


# As in the kit's W2: what conversations share, and how many go on at once for how many turns.
HEAD = {
    "tools": [
        {"type": "function", "function": {"name": f"tool_{index}", "description": LINE * 50}}
        for index in range(24)
    ],
    "messages": [{"role": "system", "content": LINE * 850}],
}
CONVERSATIONS, TURNS, CACHE_TOKENS = 16, 10, 160_000


def crowded(number: int, turn: int) -> bytes:
    """As large(), with tools and system text that all have."""
    messages = list(HEAD["messages"])
    for index in range(80 + 2 * turn):
        role = "assistant" if index % 2 else "user"
        messages.append({"role": role, "content": f"{number} {index} {LINE * 160}"})
    fixed = {"model": "mock", "stream": True, "max_tokens": 64}
    return dump({**fixed, "tools": HEAD["tools"], "messages": messages})


def dump(body: object) -> bytes:
    return json.dumps(body).encode()


def w1() -> Iterator[tuple[bytes, bytes]]:
    for index in range(96):
        cached = 224 if index >= 32 else 0
        yield request(f"s{index % 32}", small(index % 32)), answer(230, cached)


def w2() -> Iterator[tuple[bytes, bytes]]:
    for turn in range(5):
        for number in range(8):
            body = large(number, turn)
            tokens = len(body) // 4
            end = stream_end(tokens, tokens - 3000 if turn else 0)
            yield request(f"c{number}", body), STREAM_HEAD + chunk() + end


def w2_first() -> Iterator[tuple[bytes, bytes]]:
    for number in range(24):
        body = large(number, 0)
        yield request(f"c{number}", body), STREAM_HEAD + chunk() + stream_end(len(body) // 4, 0)


def w2_unsaid() -> Iterator[tuple[bytes, bytes]]:
    """As W2, of an engine that does not say how many tokens a prompt had."""
    end = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    for turn in range(5):
        for number in range(8):
            yield request(f"c{number}", large(number, turn)), STREAM_HEAD + chunk() + end


# Requests, and how many of the first only make the proxy warm.
WORKLOADS = {
    "W1": (w1, 64),
    "W2": (w2, 24),
    "W2-first": (w2_first, 16),
    "W2-unsaid": (w2_unsaid, 24),
}
# The same, traced: what is noted and told, up to the queue for the collector.
TRACED = {"W1-traced": {"tracing": {"endpoint": "http://127.0.0.1:9"}}}
OURS = ("unplugged.py", "count.py", "test_python_per_request.py")


async def counted(workload: str) -> tuple[Counting, int]:
    """Of so many requests."""
    made, warm = WORKLOADS[workload.removesuffix("-traced")]
    exchanges = list(made())
    proxy = Unplugged(**TRACED.get(workload, {}))
    tracing = proxy.app.tracing
    if tracing is not None:
        tracing.outbox.linger_s = 1e6  # type: ignore[misc]
    for raw, answered in exchanges[:warm]:
        await proxy.exchange(raw, answered)
    with Counting(*OURS) as counting:
        for raw, answered in exchanges[warm:]:
            await proxy.exchange(raw, answered)
    if tracing is not None:
        await tracing.outbox.close(0.0)
    return counting, len(exchanges) - warm


async def chunks_counted(count: int = 100) -> tuple[Counting, int]:
    """Of chunks in the middle of a stream."""
    proxy = Unplugged()
    link = await proxy.ask(request("s", small(0, stream=True)))
    link.data_received(STREAM_HEAD)
    await asyncio.sleep(0)
    link.data_received(chunk())
    with Counting(*OURS) as counting:
        for _ in range(count):
            link.data_received(chunk())
    return counting, count


async def crowded_counted(rounds: int = 3, warm: int = 3) -> tuple[Counting, int]:
    """As W2-unsaid, of more conversations at once than the caches hold, so that all that is known
    of a prompt is its text, and that none of it is held any more but its head."""
    # How many have to wait would depend on how long it takes to count.
    proxy = Unplugged(admission={"backlog_s": 1e6})
    for replica in proxy.app.router.replicas:
        replica.fit(CACHE_TOKENS)
    clients = [proxy.new_client() for _ in range(CONVERSATIONS)]
    # They are in different turns.
    places = [2 * TURNS * index + index % TURNS for index in range(CONVERSATIONS)]
    answered = STREAM_HEAD + chunk() + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    counting = Counting(*OURS)
    for played in range(warm + rounds):
        found = [divmod(place + played, TURNS) for place in places]
        asked = [request(f"c{number}", crowded(number, turn)) for number, turn in found]
        with counting if played >= warm else nullcontext():
            for client, raw in zip(clients, asked, strict=True):
                client.data_received(raw)
            # At first, when replicas seem slow, some wait for others.
            while proxy.app.server.in_flight:
                for _ in range(CONVERSATIONS):
                    await asyncio.sleep(0)
                assert proxy.asked, "it waits for something"
                for link in proxy.asked:
                    link.data_received(answered)
                proxy.asked.clear()
                for _ in range(CONVERSATIONS):
                    await asyncio.sleep(0)
        for client in clients:
            wire = client._transport
            assert isinstance(wire, Wire)
            assert wire.written[-1].endswith(b"0\r\n\r\n")
            wire.written.clear()
    return counting, rounds * CONVERSATIONS


def run(workload: str) -> tuple[Counting, int]:
    how = {"W3": chunks_counted, "W2-full": crowded_counted}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(how[workload]() if workload in how else counted(workload))


def main(workload: str = "W1", top: str = "40") -> None:
    counting, count = run(workload)
    print(counting.table(count, int(top)))


if __name__ == "__main__":
    main(*sys.argv[1:])
