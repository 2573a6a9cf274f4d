"""The placement process's end of the hop: one connection a worker."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from kvproxy.core import hop
from kvproxy.core.admission import Admission
from kvproxy.core.desk import Desk
from kvproxy.core.errors import ProxyError

log = logging.getLogger("kvproxy.hop")

# Queues drain by the clock too, not only by events.
_TICK_S = 0.05
_BEAT_S = 1.0
# A worker that takes no more than this is cut off: it would hold everything else up.
_UNREAD_BYTES_MAX = 64 * 2**20
_ASK_S = 2.0


class Page(NamedTuple):
    status: int
    content_type: str
    body: bytes


# One of kvproxy's own pages, or a command; raises ProxyError.
Show = Callable[[hop.Show], Awaitable[Page]]


class HopServer:
    """`desk` is set once it is made: both need each other. `states` is what workers should know of
    the replicas. `recall` is awaited before a prompt is placed."""

    desk: Desk

    def __init__(
        self,
        *,
        admission: Admission,
        clock: Callable[[], float],
        states: Callable[[], Sequence[hop.ReplicaState]],
        show: Show,
        figures: Callable[[str, hop.Figures], None],
        lost: Callable[[], None],
        recall: Callable[[hop.Place], Awaitable[None]] | None = None,
    ) -> None:
        self._admission = admission
        self._clock = clock
        self._states = states
        self._show = show
        self._figures = figures
        self._lost = lost
        self._recall = recall
        self.connections: dict[int, _Connection] = {}
        self.lost_workers = 0
        # What is not for the desk, or not at once.
        self._aside: dict[type, Callable[[int, str, Any], None]] = {
            hop.Figures: self._takes_figures,
            hop.Show: self._begins_to_show,
        }
        if recall is not None:
            self._aside[hop.Place] = self._begins_to_recall
        # Those that have something to say.
        self._spoken: list[_Connection] = []
        self._told: Sequence[hop.ReplicaState] = ()
        self._number = 0
        self._listener: asyncio.Server | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, path: str) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(lambda: _Connection(self), path)
        self._beat = loop.call_later(_BEAT_S, self._beats)

    @property
    def listening(self) -> bool:
        return self._listener is not None

    async def deserted(self, within_s: float) -> None:
        """Returns when no worker is connected any more, or that time has passed."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while self.connections and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_TICK_S)

    async def close(self) -> None:
        for timer in (self._tick, self._beat):
            if timer is not None:
                timer.cancel()
        if self._listener is not None:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.connections.values()):
            connection.cut()
        await asyncio.sleep(0)

    def say(self, worker: int, message: hop.FromPlacement) -> None:
        """Goes out with the end of this turn."""
        connection = self.connections.get(worker)
        if connection is not None:
            connection.say(message)

    def spoke(self, connection: "_Connection") -> None:
        self._spoken.append(connection)

    def changed(self) -> None:
        """A replica is not what it was, or load is: whoever may go now goes, and all are told."""
        self.desk.poll(self._clock())
        self._tell_states()
        self.flush()

    async def ask_all(self, what: str, about: str = "") -> list[bytes]:
        """What the workers have to say; those that do not answer in time are left out."""
        asked = [connection.ask(what, about) for connection in self.connections.values()]
        if not asked:
            return []
        self.flush()
        done, late = await asyncio.wait(asked, timeout=_ASK_S)
        for future in late:
            future.cancel()
        return [future.result() for future in done if not future.cancelled()]

    def joined(self, connection: "_Connection") -> int:
        self._number += 1
        self.connections[self._number] = connection
        self.desk.join(self._number)
        return self._number

    def left(self, number: int, name: str) -> None:
        del self.connections[number]
        self.lost_workers += 1
        self._lost()
        ended = self.desk.lost(number, self._clock())
        if ended:
            log.warning("worker %s is gone; what it held is free again (%d requests)", name, ended)
        self.flush()

    def heard(self, number: int, name: str, messages: Sequence[hop.FromWorker]) -> None:
        """All that came in one turn. Raises BrokenHopError."""
        now = self._clock()
        for message in messages:
            aside = self._aside.get(type(message))
            if aside is None:
                self.desk.take(number, message, now)
            else:
                aside(number, name, message)
        if messages and self._spoken:
            self.say(number, hop.Handled(self._clock() - now))
        self._taken()

    def flush(self) -> None:
        spoken, self._spoken = self._spoken, []
        for connection in spoken:
            connection.flush()

    def state(self) -> hop.State:
        return hop.State(self._states())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _takes_figures(self, number: int, name: str, figures: hop.Figures) -> None:
        self._figures(name, figures)

    def _begins_to_show(self, number: int, name: str, asked: hop.Show) -> None:
        self._spawn(self._shows(number, asked))

    def _begins_to_recall(self, number: int, name: str, asked: hop.Place) -> None:
        assert self._recall is not None
        self._spawn(self._recalls(number, asked, self._recall(asked)))

    async def _recalls(self, number: int, asked: hop.Place, recalled: Awaitable[None]) -> None:
        began = self._clock()
        try:
            await recalled
        except Exception:
            # Whoever asked waits for an answer, which what is known here is enough for.
            log.exception("what others know of a conversation cannot be told")
        connection = self.connections.get(number)
        if connection is None:
            return
        try:
            self.desk.take(number, asked, self._clock())
            self.say(number, hop.Handled(self._clock() - began))
        except Exception:
            # It waits for an answer; cut off, it goes on alone.
            log.exception("worker %d asked what cannot be answered: it is cut off", number)
            connection.cut()
        self._taken()

    def _taken(self) -> None:
        """Who has to wait is looked at again."""
        if self._admission.length and self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(_TICK_S, self._ticks)
        self.flush()

    async def _shows(self, number: int, asked: hop.Show) -> None:
        try:
            page = await self._show(asked)
        except ProxyError as error:
            self.say(number, hop.Shown(asked.q, error.status, "", b"", hop.refused(0, error)))
            self.flush()
            return
        except Exception:
            log.exception("page %s failed", asked.target)
            page = Page(500, "text/plain; charset=utf-8", b"kvproxy failed; see its log.\n")
        self.say(number, hop.Shown(asked.q, page.status, page.content_type, page.body))
        self.flush()

    def _ticks(self) -> None:
        self._tick = None
        self.desk.poll(self._clock())
        if self._admission.length:
            self._tick = asyncio.get_running_loop().call_later(_TICK_S, self._ticks)
        self.flush()

    def _beats(self) -> None:
        self._beat = asyncio.get_running_loop().call_later(_BEAT_S, self._beats)
        self._tell_states()
        for number in self.connections:
            self.say(number, hop.Beat())
        self.flush()

    def _tell_states(self) -> None:
        states = self._states()
        if states != self._told:
            self._told = states
            for number in self.connections:
                self.say(number, hop.State(states))


class _Connection(asyncio.Protocol):
    def __init__(self, server: HopServer) -> None:
        self._server = server
        self._frames = hop.Frames()
        self._out: list[hop.FromPlacement] = []
        self._number = 0
        self._name = ""
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        self._asked = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            # What piled up is answered in one frame.
            messages: list[hop.FromWorker] = []
            for payload in self._frames.feed(data):
                messages += hop.from_worker.decode(payload)
            if messages:
                self._hear(messages)
        except (hop.BrokenHopError, msgspec.MsgspecError) as error:
            log.error("worker %s spoke what is not understood: %s", self._name or "?", error)
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        for question in self._questions.values():
            question.cancel()
        if self._number:
            self._server.left(self._number, self._name)

    def say(self, message: hop.FromPlacement) -> None:
        if not self._out:
            self._server.spoke(self)
        self._out.append(message)

    def ask(self, what: str, about: str) -> "asyncio.Future[bytes]":
        self._asked += 1
        question = asyncio.get_running_loop().create_future()
        self._questions[self._asked] = question
        self.say(hop.Ask(self._asked, what, about))
        return question

    def flush(self) -> None:
        if not self._out or self._transport is None or self._transport.is_closing():
            return
        out, self._out = self._out, []
        self._transport.write(hop.frame(out))
        if self._transport.get_write_buffer_size() > _UNREAD_BYTES_MAX:
            log.error("worker %s does not read what it is told: it is cut off", self._name)
            self.cut()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _hear(self, messages: list[hop.FromWorker]) -> None:
        if not self._number:
            first, *messages = messages
            if not isinstance(first, hop.Hello):
                raise hop.BrokenHopError("the first message says who speaks")
            self._name = first.worker
            self._number = self._server.joined(self)
            self.say(self._server.state())
            log.info("worker %s (pid %d) has joined", first.worker, first.pid)
        if self._questions:
            messages = [message for message in messages if not self._is_answer(message)]
        self._server.heard(self._number, self._name, messages)

    def _is_answer(self, message: hop.FromWorker) -> bool:
        if not isinstance(message, hop.Heard):
            return False
        question = self._questions.pop(message.q, None)
        if question is not None and not question.done():
            question.set_result(message.body)
        return True
