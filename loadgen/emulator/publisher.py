"""The sockets that KV events leave by: PUB for what is new, ROUTER for what somebody missed."""

import asyncio
import time
from collections import deque
from typing import Any, Literal

import zmq
import zmq.asyncio

from loadgen.emulator.block_events import batch

_END = b"\xff" * 8
_BIND_TRIES = 100


class KvPublisher:
    """Numbers batches from 0; a new publisher is what a restarted engine has.

    `frames` 4: replay answers with the topic, as vLLM does from 0.26 on; 3: as before.
    """

    def __init__(self, *, topic: str, buffer_steps: int, frames: Literal[3, 4] = 4) -> None:
        self._context: zmq.asyncio.Context | None = None
        self._topic = topic.encode()
        self._frames = frames
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=buffer_steps)
        self._pub: zmq.Socket[bytes] | None = None
        self._router: zmq.asyncio.Socket | None = None
        self._task: asyncio.Task[None] | None = None
        self.next = 0
        self.drop_next = 0
        self.repeat_next = 0
        # A replay breaks off behind so many batches, as those of vLLM before 0.33 may; 0 never.
        self.replay_most = 0
        self.port = self.replay_port = 0

    async def start(self, host: str, port: int = 0, replay_port: int = 0) -> None:
        """Listen; port 0 is chosen by the system. Raises OSError if it stays taken."""
        context = self._context = zmq.asyncio.Context()
        self._pub = zmq.Socket(zmq.Context(context), zmq.PUB)
        self._router = context.socket(zmq.ROUTER)
        self._router.set(zmq.SNDHWM, 0)
        try:
            self.port = await _bind(self._pub, host, port)
            self.replay_port = await _bind(self._router, host, replay_port)
        except OSError:
            await self.close()
            raise
        self._task = asyncio.create_task(self._serve_replays(self._router))

    @property
    def topic(self) -> str:
        return self._topic.decode()

    def publish(self, events: list[Any]) -> None:
        """One batch; it is kept for replay even when a fault keeps it from being sent."""
        assert self._pub is not None
        payload = batch(time.time(), events)
        number, self.next = self.next, self.next + 1
        self._kept.append((number, payload))
        message = [self._topic, number.to_bytes(8, "big"), payload]
        if self.drop_next > 0:
            self.drop_next -= 1
            return
        self._pub.send_multipart(message)
        if self.repeat_next > 0:
            self.repeat_next -= 1
            self._pub.send_multipart(message)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for socket in (self._pub, self._router):
            if socket is not None:
                socket.close(linger=0)
        if self._context is not None:
            self._context.term()

    async def _serve_replays(self, router: zmq.asyncio.Socket) -> None:
        while True:
            frames = await router.recv_multipart()
            if len(frames) != 3 or len(frames[2]) != 8:
                continue
            start = int.from_bytes(frames[2], "big")
            topic = [self._topic] if self._frames == 4 else []
            wanted = [kept for kept in self._kept if kept[0] >= start]
            cut = 0 < self.replay_most < len(wanted)
            for number, payload in wanted[: self.replay_most if cut else None]:
                answer = [frames[0], b"", *topic, number.to_bytes(8, "big"), payload]
                await router.send_multipart(answer)
            if cut:
                continue
            end = [b""] if self._frames == 4 else []
            await router.send_multipart([frames[0], b"", *end, _END, b""])


async def _bind(socket: Any, host: str, port: int) -> int:
    """The port that is listened on. One just given up may stay taken for a moment."""
    if ":" in host:
        socket.set(zmq.IPV6, 1)
        host = f"[{host}]"
    for attempt in range(_BIND_TRIES):
        try:
            socket.bind(f"tcp://{host}:{port or '*'}")
            break
        except zmq.ZMQError as error:
            if attempt == _BIND_TRIES - 1:
                raise OSError(error.errno, f"KV events at {host}: {error}") from error
            await asyncio.sleep(0.02)
    return int(socket.get(zmq.LAST_ENDPOINT).rpartition(b":")[2])
