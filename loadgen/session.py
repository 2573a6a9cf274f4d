"""One conversation as a closed loop: think, send, wait for the answer, go on.

Sub-agents run beside it as children with their own session ids. The next turn waits for the
think time or the children that the recording waited for, whichever is longer: the recorded think
time already contains them.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from loadgen.bound import InfiniteCache, PlayCache
from loadgen.chaos import Fault, Faults
from loadgen.client import Client
from loadgen.content import Conversation, Prompt
from loadgen.dialects import DIALECTS, Asked, Dialect
from loadgen.limits import Admission
from loadgen.plan import Plans
from loadgen.resume import Past
from loadgen.sample import Sample
from loadgen.schedule import Timing
from loadgen.text import WordPool
from loadgen.traces.model import SubAgent, Trace, Turn

# After a failure that came back at once, so that a dead endpoint is not hammered.
FAILURE_PAUSE_S = 1.0
# What a header may hold; the rest of a name that a file gave is escaped as in a URL.
_PLAIN = "".join(map(chr, range(0x20, 0x7F)))


@dataclass(frozen=True, slots=True)
class Asking:
    """What every request of a run has in common."""

    model: str
    headers: dict[str, str] = field(default_factory=dict)
    output_tokens_max: int | None = None
    engine_extras: bool = True
    dialect: Dialect = DIALECTS["chat"]

    def body(self, prompt: Prompt, output_tokens: int) -> bytes:
        exact = self.engine_extras
        fields = (prompt.fragments, prompt.tools, prompt.opens, output_tokens, exact)
        return self.dialect.body(Asked(self.model, *fields))

    def output_tokens(self, turn: Turn) -> int:
        return max(1, min(turn.output_tokens, self.output_tokens_max or turn.output_tokens))


class Entry(Protocol):
    """What a user has to pass before every request."""

    @property
    def closed(self) -> bool: ...

    def close(self, reason: str) -> None: ...

    def enter(self) -> bool: ...

    async def wait_until(self, at: float) -> bool: ...

    async def wait_closed(self) -> None: ...

    async def seat(self, due: float) -> float:
        """Wait for a seat; returns when the request is due, `due` if there was one."""


class Gate:
    """Says whether another request may leave, and when the run is over."""

    def __init__(self, requests_max: int | None = None) -> None:
        self._left = requests_max
        self._closed = asyncio.Event()
        self.reason = ""

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self, reason: str) -> None:
        if not self.closed:
            self.reason = reason
            self._closed.set()

    def enter(self) -> bool:
        """Take one request out of the budget."""
        if self.closed:
            return False
        if self._left is not None:
            if self._left == 0:
                self.close("requests sent")
                return False
            self._left -= 1
        return True

    async def wait_until(self, at: float) -> bool:
        """Sleep until the monotonic time `at`; False when the gate closed before."""
        delay = at - time.monotonic()
        if delay > 0 and not self.closed:
            try:
                await asyncio.wait_for(self._closed.wait(), delay)
            except TimeoutError:
                return not self.closed
        return not self.closed

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def seat(self, due: float) -> float:
        """There are always seats enough."""
        return due


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the sessions of a run share."""

    client: Client
    gate: Entry
    asking: Asking
    timing: Timing
    pool: WordPool
    plans: Plans
    cache: InfiniteCache
    sent: Callable[[Sample], None]
    ended: Callable[[Sample], None]
    past: Past = field(default_factory=Past)
    faults: Faults = field(default_factory=Faults)
    admission: Admission | None = None


class Session:
    """One play of one trace. `prepare` renders its first prompt, by far the largest step of them,
    before it has a time to keep; the others are rendered while the answer before comes in."""

    def __init__(self, stage: Stage, trace: Trace, play: int, first_turn: int = 0) -> None:
        self.stage = stage
        self._trace = trace
        plan = stage.plans.of(trace)
        self._id = f"{trace.id}-{stage.plans.settings.seed}-{play}"
        self._lane = plan.lane_of(trace)
        played = [at for agent, at in stage.past.done.get(self._id, ()) if not agent]
        self._first_turn = min(played, default=first_turn)
        self._conversation = Conversation(plan, stage.pool, play, stage.asking.dialect)
        self._cache: PlayCache = stage.cache.play(plan, play)

    async def prepare(self) -> None:
        first = self._conversation.plan.request(self._lane, self._first_turn)
        await self._conversation.prepare(first)

    async def run(self, at: float) -> None:
        """Play the conversation from its first turn, which is at the monotonic time `at`. Of what
        lies before a later first turn nothing is asked: its prompt holds all of it."""
        children: list[tuple[SubAgent, asyncio.Task[float]]] = []
        lane = turn = 0
        due = ended = at
        before: Turn | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for step in self._trace.steps:
                    if isinstance(step, SubAgent):
                        lane += 1
                        if turn > self._first_turn or not self._first_turn:
                            child = group.create_task(self._sub_agent(step, lane, ended))
                            children.append((step, child))
                        continue
                    turn += 1
                    if turn <= self._first_turn:
                        continue
                    if self._past("", (0, turn - 1)):
                        before = step
                        continue
                    if before is not None:
                        due = self.stage.timing.due(step, before, due, ended)
                    joined = [task for agent, task in children if agent.waits]
                    if joined:
                        await asyncio.wait(joined)
                        due = max(due, *(task.result() for task in joined))
                    done = await self._turn(step, (0, turn - 1), due, "")
                    if done is None:
                        break
                    before, ended = step, done
        except BaseExceptionGroup as error:
            raise error.exceptions[0] from error

    async def _sub_agent(self, agent: SubAgent, lane: int, at: float) -> float:
        """From the monotonic time `at` on; returns when its last answer had ended."""
        due = ended = at
        for index, turn in enumerate(agent.turns):
            if self._past(agent.agent_id, (lane, index)):
                continue
            if index:
                due = self.stage.timing.due(turn, agent.turns[index - 1], due, ended)
            done = await self._turn(turn, (lane, index), due, agent.agent_id)
            if done is None:
                break
            ended = done
        return ended

    def _past(self, agent: str, place: tuple[int, int]) -> bool:
        """Whether the run, before it was interrupted, had this request behind it."""
        if (agent, place[1]) not in self.stage.past.done.get(self._id, ()):
            return False
        self._cache.send(self._conversation.plan.request(self._lane + place[0], place[1]))
        return True

    async def _turn(
        self, turn: Turn, place: tuple[int, int], due: float, agent: str
    ) -> float | None:
        """One request, the one at (lane, index), at the monotonic time `due`: when its answer
        had ended, None when the run is over."""
        stage, conversation = self.stage, self._conversation
        request = conversation.plan.request(self._lane + place[0], place[1])
        prompt = conversation.prompt(request)
        if not await stage.gate.wait_until(due):
            return None
        due = await stage.gate.seat(due)
        output_tokens = stage.asking.output_tokens(turn)
        bound_tokens = self._cache.send(request)
        if stage.admission is not None:
            uncached = prompt.tokens - bound_tokens
            due = await stage.admission.admit(due, uncached, output_tokens, self._closed)
        if not stage.gate.enter():
            return None
        sample = Sample(
            conversation=self._id,
            trace=self._trace.id,
            turn=place[1],
            agent=agent,
            trace_tokens=turn.input_tokens,
            planned_tokens=prompt.tokens,
            bound_tokens=bound_tokens,
            output_tokens_asked=output_tokens,
        )
        name = quote(self._id, safe=_PLAIN)
        headers = stage.asking.headers | {"X-Session-ID": name}
        if agent:
            headers["X-Session-ID"] = f"{name}.{quote(agent, safe=_PLAIN)}"
            headers["X-Parent-Session-ID"] = name
        stage.sent(sample)
        body = stage.asking.body(prompt, output_tokens)
        following = conversation.plan.following(request)
        ahead = asyncio.create_task(conversation.prepare(following))
        try:
            await stage.client.send(sample, headers, body, due, self._fault(sample))
        except asyncio.CancelledError:
            ahead.cancel()
            raise
        finally:
            stage.ended(sample)
        await ahead
        if sample.error and not sample.cut and not sample.status:
            await stage.gate.wait_until(time.monotonic() + FAILURE_PAUSE_S)
            return time.monotonic()
        return stage.client.ended_at(sample)

    def _closed(self) -> bool:
        return self.stage.gate.closed

    def _fault(self, sample: Sample) -> Fault:
        seed, scale = self.stage.plans.settings.seed, self.stage.timing.time_scale
        return self.stage.faults.of(sample.key, seed, sample.output_tokens_asked, scale)
