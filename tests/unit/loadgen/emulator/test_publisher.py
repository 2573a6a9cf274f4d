import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import pytest
import zmq
import zmq.asyncio

from kvproxy.core.kv_events import Cleared, decode_batch
from loadgen.emulator.publisher import KvPublisher

CLEARED = [{"type": "AllBlocksCleared"}]
END = b"\xff" * 8


@pytest.fixture
async def context() -> AsyncIterator[zmq.asyncio.Context]:
    context = zmq.asyncio.Context()
    yield context
    context.destroy(linger=0)


async def replay(context: zmq.asyncio.Context, port: int, start: int) -> list[list[bytes]]:
    with context.socket(zmq.DEALER) as socket:
        socket.connect(f"tcp://127.0.0.1:{port}")
        await socket.send_multipart([b"", start.to_bytes(8, "big")])
        answers = []
        while True:
            frames = await asyncio.wait_for(socket.recv_multipart(), 5)
            answers.append(frames)
            if frames[-2] == END:
                return answers


@pytest.mark.parametrize("frames", [3, 4])
async def test_replays_in_both_forms(context: zmq.asyncio.Context, frames: Literal[3, 4]) -> None:
    publisher = KvPublisher(topic="kv@a", buffer_steps=2, frames=frames)
    await publisher.start("127.0.0.1")
    try:
        for _ in range(3):
            publisher.publish(CLEARED)
        answers = await replay(context, publisher.replay_port, 0)
        assert [len(answer) for answer in answers] == [frames] * 3
        assert [int.from_bytes(answer[-2], "big") for answer in answers[:-1]] == [1, 2]
        assert answers[-1][-1] == b""
        assert await replay(context, publisher.replay_port, 9) == answers[-1:]
    finally:
        await publisher.close()


async def test_what_is_published_arrives_but_for_faults(context: zmq.asyncio.Context) -> None:
    publisher = KvPublisher(topic="kv@a", buffer_steps=10)
    await publisher.start("127.0.0.1")
    try:
        with context.socket(zmq.SUB) as socket:
            socket.subscribe(b"kv@")
            socket.connect(f"tcp://127.0.0.1:{publisher.port}")
            while not await socket.poll(20):
                publisher.publish(CLEARED)
            topic, number, payload = await socket.recv_multipart()
            assert topic == b"kv@a"
            assert decode_batch(payload).events == [Cleared()]
            while await socket.poll(50):
                await socket.recv_multipart()
            first = publisher.next
            publisher.drop_next, publisher.repeat_next = 1, 1
            publisher.publish(CLEARED)
            publisher.publish(CLEARED)
            numbers = [(await socket.recv_multipart())[1] for _ in range(2)]
            assert [int.from_bytes(n, "big") for n in numbers] == [first + 1] * 2
            assert len(number) == 8
    finally:
        await publisher.close()


async def test_the_next_one_takes_the_same_ports() -> None:
    first = KvPublisher(topic="", buffer_steps=10)
    await first.start("127.0.0.1")
    await first.close()
    second = KvPublisher(topic="", buffer_steps=10)
    await second.start("127.0.0.1", first.port, first.replay_port)
    assert (second.port, second.replay_port) == (first.port, first.replay_port)
    await second.close()
