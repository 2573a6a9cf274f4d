"""Listening to the KV events of replicas over ZMQ.

Subscribe first, then ask for a replay of what was missed, and drop by number what comes twice. One
task follows one stream; it applies events in slices, so that requests are never held up by them.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import zmq
import zmq.asyncio

from kvproxy.background import keep
from kvproxy.core.event_sequence import EventSequence, Verdict
from kvproxy.core.holdings import Holdings
from kvproxy.core.kv_events import Batch, Cleared, KvEventError, decode_batch
from kvproxy.core.kv_sources import KvSource
from kvproxy.core.replica import Replica

log = logging.getLogger("kvproxy.events")

_END = b"\xff" * 8
_SLICE_BLOCKS = 256
_QUEUE_BATCHES = 20_000
_RETRY_S = 1.0
# Once a replay has begun its messages follow each other at once. vLLM before 0.33 drops what its
# socket cannot take, some thousand messages on, and the end marker with it.
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """Seconds. After `idle_s` without a batch a replay tells whether one was lost on the way."""

    idle_s: float = 10.0
    replay_timeout_s: float = 5.0


@dataclass(slots=True)
class FeedCounts:
    """Of one stream. A resync forgets and asks for everything again; a replay that was cut short is
    asked for the rest."""

    batches: int = 0
    blocks: int = 0
    gaps: int = 0
    resyncs: int = 0
    restarts: int = 0
    refused: int = 0
    cut: int = 0


@dataclass(slots=True, eq=False)
class _Stream:
    source: KvSource
    replica: Replica
    sequence: EventSequence = field(default_factory=EventSequence)
    counts: FeedCounts = field(default_factory=FeedCounts)
    unyielded: int = 0
    # Its connection broke, so another engine may go on with numbers that seem to follow.
    doubted: bool = False
    # What is amiss, which is said once.
    trouble: str = ""


class KvEventFeed:
    """Streams by source. follow() and forget() come and go with what discovery finds."""

    def __init__(self, holdings: Holdings, limits: FeedLimits) -> None:
        self._holdings = holdings
        self._limits = limits
        # Made with the first stream: a proxy without events needs no threads for them.
        self._made: zmq.asyncio.Context | None = None
        self._tasks: dict[KvSource, asyncio.Task[None]] = {}
        self.counts: dict[KvSource, FeedCounts] = {}

    def follow(self, source: KvSource, replica: Replica) -> None:
        """Start listening, unless that is done already."""
        if source not in self._tasks:
            stream = _Stream(source, replica)
            self.counts[source] = stream.counts
            self._tasks[source] = keep("events", partial(self._follow, stream), source.replica)

    async def forget(self, source: KvSource) -> None:
        """Stop listening, and drop what was heard."""
        task = self._tasks.pop(source, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del self.counts[source]
            self._holdings.reset(source.replica, source.rank, complete=True)

    @property
    def sources(self) -> list[KvSource]:
        return list(self._tasks)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        if self._made is not None:
            self._made.destroy(linger=0)
            self._made = None

    @property
    def _context(self) -> zmq.asyncio.Context:
        if self._made is None:
            self._made = zmq.asyncio.Context()
        return self._made

    async def _follow(self, stream: _Stream) -> None:
        while True:
            try:
                await self._listen(stream)
            except zmq.ZMQError as error:
                self._say(stream, f"its events cannot be heard: {error}")
            except Exception:
                # Part of it may have been taken: all is asked for again.
                self._restart(stream, lost=True)
                raise
            await asyncio.sleep(_RETRY_S)

    async def _listen(self, stream: _Stream) -> None:
        source = stream.source
        with self._context.socket(zmq.SUB) as socket:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RCVHWM, _QUEUE_BATCHES)
            socket.subscribe(source.topic.encode())
            if "*" in source.endpoint:
                socket.bind(source.endpoint)
            else:
                socket.connect(source.endpoint)
            with socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
                await self._catch_up(stream)
                while True:
                    if not await socket.poll(int(self._limits.idle_s * 1000)):
                        await self._catch_up(stream)
                        continue
                    while await monitor.poll(0):
                        await monitor.recv_multipart()
                        stream.doubted = True
                    await self._take(stream, await socket.recv_multipart())

    async def _take(self, stream: _Stream, frames: list[bytes]) -> None:
        """One published message: topic, number, batch."""
        if len(frames) != 3 or len(frames[1]) != 8:
            stream.counts.refused += 1
            return
        number = int.from_bytes(frames[1], "big")
        batch = self._decode(stream, frames[2])
        if batch is None:
            return
        if stream.doubted:
            stream.doubted = False
            await self._catch_up(stream)
        sequence = stream.sequence
        verdict = sequence.judge(number, batch.at)
        if verdict is Verdict.RESTART:
            self._restart(stream)
            verdict = sequence.judge(number, batch.at)
        if verdict is Verdict.GAP:
            stream.counts.gaps += 1
            await self._catch_up(stream)
            verdict = sequence.judge(number, batch.at)
        if verdict is Verdict.GAP:
            # Nobody can tell what was missed.
            self._lose(stream, number)
            verdict = Verdict.APPLY
        if verdict is Verdict.APPLY:
            await self._apply(stream, number, batch)

    async def _catch_up(self, stream: _Stream) -> None:
        """Ask for what came after the last batch applied, again as long as that brings some."""
        if not stream.source.replay:
            return
        sequence = stream.sequence
        while True:
            begun = sequence.next
            try:
                if await self._replay_all(stream):
                    stream.trouble = ""
                    return
            except TimeoutError:
                if sequence.next > begun:
                    stream.counts.cut += 1
                    continue
                where = stream.source.replay
                self._say(stream, f"it does not answer at its replay endpoint {where}")
                return
            finally:
                self._behind(stream, so=False)

    async def _replay_all(self, stream: _Stream) -> bool:
        """False if it must be asked again; raises TimeoutError if it broke off."""
        sequence, proven = stream.sequence, False
        begun = sequence.next
        async with aclosing(self._replay(stream, sequence.replay_from)) as replay:
            async for number, payload in replay:
                batch = self._decode(stream, payload)
                if batch is None:
                    continue
                if not proven and not sequence.continues(number, batch.at):
                    if begun:
                        same_engine = number > sequence.replay_from
                        self._restart(stream, lost=same_engine)
                        return False
                    self._lose(stream, number)
                proven = True
                if number > sequence.next:
                    if sequence.next > begun:
                        # Some were dropped on the way: from there on once more.
                        raise TimeoutError
                    self._lose(stream, number)
                if number == sequence.next:
                    self._behind(stream, so=True)
                    await self._apply(stream, number, batch)
        if begun and not proven:
            # It does not know of the last batch that came from it: it is another engine.
            self._restart(stream)
            return False
        stream.replica.kv_events = True
        return True

    def _say(self, stream: _Stream, trouble: str) -> None:
        """Once, until it is another or was over."""
        if trouble != stream.trouble:
            stream.trouble = trouble
            log.warning("replica %s: %s", stream.source.replica, trouble)

    def _behind(self, stream: _Stream, *, so: bool) -> None:
        self._holdings.standing.behind(stream.source.replica, stream.source.rank, so=so)

    def _restart(self, stream: _Stream, *, lost: bool = False) -> None:
        """Forget everything; an engine that did not just lose batches has an empty cache."""
        self._holdings.reset(stream.source.replica, stream.source.rank, complete=True)
        stream.sequence.restarted()
        if lost:
            stream.counts.resyncs += 1
            return
        stream.counts.restarts += 1
        stream.replica.hbm.clear()
        log.info("replica %s has restarted: its event numbers begin anew", stream.source.replica)

    def _lose(self, stream: _Stream, number: int) -> None:
        """What was announced before batch `number` cannot be known any more."""
        complete = number == 0
        self._holdings.reset(stream.source.replica, stream.source.rank, complete=complete)
        stream.counts.resyncs += 1
        stream.sequence.missed(number)

    def _decode(self, stream: _Stream, payload: bytes) -> Batch | None:
        try:
            return decode_batch(payload)
        except KvEventError as error:
            stream.counts.refused += 1
            log.warning("events of %s: %s", stream.source.replica, error)
            return None

    async def _apply(self, stream: _Stream, number: int, batch: Batch) -> None:
        replica, rank = stream.source.replica, stream.source.rank
        stream.sequence.applied(number, batch.at)
        stream.counts.batches += 1
        stream.replica.kv_events = True
        for event in batch.events:
            try:
                self._holdings.apply(replica, rank, event)
            except KvEventError as error:
                stream.counts.refused += 1
                log.warning("events of %s: %s", replica, error)
            blocks = 1 if isinstance(event, Cleared) else len(event.hashes)
            stream.counts.blocks += blocks
            stream.unyielded += blocks
            if stream.unyielded >= _SLICE_BLOCKS:
                stream.unyielded = 0
                await asyncio.sleep(0)

    async def _replay(self, stream: _Stream, start: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Numbers and batches from `start` on; raises TimeoutError when the engine falls silent.

        vLLM up to 0.25 answers in three frames, later in four, with the topic in between.
        """
        with self._context.socket(zmq.DEALER) as socket:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RCVHWM, 0)
            socket.connect(stream.source.replay)
            await socket.send_multipart([b"", start.to_bytes(8, "big")])
            patience_s = self._limits.replay_timeout_s
            while True:
                if not await socket.poll(int(patience_s * 1000)):
                    raise TimeoutError
                frames = await socket.recv_multipart()
                patience_s = min(patience_s, _PAUSE_S)
                if len(frames) not in (3, 4) or len(frames[-2]) != 8:
                    stream.counts.refused += 1
                elif frames[-2] == _END:
                    return
                else:
                    yield int.from_bytes(frames[-2], "big"), frames[-1]
