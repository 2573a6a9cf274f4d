"""Hears how a replica names one block of tokens, among all that its KV events tell."""

import time
from collections.abc import Sequence
from typing import Self

import zmq
import zmq.asyncio

from kvproxy.admin.doctor.facts import EventFacts
from kvproxy.core.kv_events import KvEventError, Stored, decode_batch
from kvproxy.core.kv_sources import KvSource

# To be connected; for what was published to arrive; for what is asked again to begin to.
_CONNECT_S, _ARRIVE_S, _ASK_AGAIN_S = 2.0, 0.4, 2.0
# A busy engine keeps ten thousand batches: what it tells again is not listened to for ever.
_AGAIN_MAX_S = 10.0
_END = b"\xff" * 8


class Ear:
    """Listens from `async with` on. `block`: the tokens whose name is asked for; none, no name."""

    def __init__(self, events: EventFacts, block: Sequence[int]) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set(zmq.LINGER, 0)
        self._block = tuple(block)
        self._endpoints = [
            source.endpoint
            for source in events.sources
            if source.endpoint not in events.deaf and "*" not in source.endpoint
        ]
        self._replays = [
            source
            for source in events.sources
            if source.replay and source.replay not in events.silent_replays
        ]

    async def __aenter__(self) -> Self:
        """What is published before a publisher knows of us is never heard: so it is waited for."""
        if not self._block:
            return self
        until, unknown = time.monotonic() + _CONNECT_S, len(self._endpoints)
        with self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) as monitor:
            self._socket.subscribe(b"")
            for endpoint in self._endpoints:
                self._socket.connect(endpoint)
            while unknown and await monitor.poll(_left_ms(until)):
                await monitor.recv_multipart()
                unknown -= 1
            self._socket.disable_monitor()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    async def listen(self, rank: int, hashes: dict[int, str]) -> None:
        """Puts the block's name under the rank that told it; soon leaves it out where none did.
        `rank`: whose requests have ended; -1: whoever's."""
        if not self._block:
            return
        until = time.monotonic() + _ARRIVE_S
        # However much else is published.
        while await self._socket.poll(_left_ms(until)):
            if self._tells(await self._socket.recv_multipart(), hashes):
                return
        for source in self._replays:
            if rank in (-1, source.rank) and await self._told_again(source, hashes):
                return

    async def _told_again(self, source: KvSource, hashes: dict[int, str]) -> bool:
        until = time.monotonic() + _AGAIN_MAX_S
        with self._context.socket(zmq.DEALER) as asking:
            asking.set(zmq.LINGER, 0)
            asking.connect(source.replay)
            await asking.send_multipart([b"", bytes(8)])
            while await asking.poll(min(_left_ms(until), int(_ASK_AGAIN_S * 1000))):
                frames = await asking.recv_multipart()
                if len(frames) < 2 or frames[-2] == _END:
                    return False
                if self._tells(frames, hashes):
                    return True
        return False

    def _tells(self, frames: Sequence[bytes], hashes: dict[int, str]) -> bool:
        try:
            batch = decode_batch(frames[-1])
        except KvEventError:
            return False
        for event in batch.events:
            named = _named(event, self._block) if isinstance(event, Stored) else None
            if named is not None:
                hashes[batch.rank] = f"{named:016x}"
                return True
        return False


def _left_ms(until: float) -> int:
    return max(0, round((until - time.monotonic()) * 1000))


def _named(event: Stored, block: tuple[int, ...]) -> int | None:
    """The hash of `block` among those that `event` stores."""
    size = len(block)
    if event.block_size != size or len(event.tokens) != len(event.hashes) * size:
        return None
    for at, name in enumerate(event.hashes):
        if tuple(event.tokens[at * size : (at + 1) * size]) == block:
            return name
    return None
