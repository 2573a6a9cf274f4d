"""N conversations at a time, each a closed loop of think and turn, replaced when it ends."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kvproxy.core.types import Identity
from loadgen.schedule import Timing, TraceQueue
from loadgen.simulate.prompts import Commons, Play
from loadgen.simulate.world import World
from loadgen.traces.model import SubAgent, Trace, Turn
from loadgen.warm import Warm


@dataclass(frozen=True, slots=True)
class Stage:
    """What all lanes share. `commons` is for traces with common ids."""

    world: World
    queue: TraceQueue
    timing: Timing
    warm: Warm
    numbers: dict[str, int]
    output_tokens_max: int | None = None
    commons: Commons = field(default_factory=Commons)

    def output_tokens(self, turn: Turn) -> int:
        return max(1, min(turn.output_tokens, self.output_tokens_max or turn.output_tokens))


class Lane:
    """One conversation slot. Never more conversations than lanes are alive. While it is paused
    its conversation asks for nothing more."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._paused = False
        self._held: Callable[[float], None] | None = None

    def pause(self, paused: bool, now: float) -> None:
        self._paused = paused
        if not paused and self._held is not None:
            held, self._held = self._held, None
            held(now)

    def holds(self, action: Callable[[float], None]) -> bool:
        """Whether `action` has to wait for the end of the pause; if so it is kept until then."""
        if self._paused:
            self._held = action
        return self._paused

    def begin(self, now: float) -> None:
        if self.holds(self.begin):
            return
        taken = self._stage.queue.take()
        if taken is not None:
            trace, play = taken
            _Conversation(self._stage, trace, play, self).step(now)

    def ended(self, trace: Trace, now: float) -> None:
        self._stage.queue.give_back(trace)
        # The next conversation begins in an event of its own: no recursion however short it is.
        self._stage.world.at(now, self.begin)


class _Conversation:
    def __init__(self, stage: Stage, trace: Trace, play: int, lane: Lane) -> None:
        self._stage = stage
        self._trace = trace
        self._lane = lane
        self._name = f"{trace.id}.{play}"
        # Equal ids of scope "global" are equal text in all traces.
        text = f".{play}" if trace.shared_ids else self._name
        number = stage.numbers.setdefault(text, len(stage.numbers) + 1)
        self._play = Play(trace, number, stage.warm)
        self._position = 0
        self._asked = False
        self._joining = 0
        self._ready_at = 0.0
        self._due: Turn | None = None

    def step(self, now: float) -> None:
        """Go on to the next turn: start sub-agents on the way, wait for those that must end."""
        steps = self._trace.steps
        while self._position < len(steps):
            step = steps[self._position]
            self._position += 1
            if isinstance(step, SubAgent):
                self._joining += step.waits
                child = _Child(self._stage, self._play, step, self._name, self._trace.shared_ids)
                child.begin(now, self._joined if step.waits else None)
                continue
            self._due = step
            self._ready_at = now + (self._stage.timing.think_s(step) if self._asked else 0.0)
            self._stage.world.at(self._ready_at, self._go)
            return
        self._lane.ended(self._trace, now)

    def _joined(self, now: float) -> None:
        self._joining -= 1
        if not self._joining:
            self._go(now)

    def _go(self, now: float) -> None:
        turn = self._due
        if turn is None or self._joining or now < self._ready_at or self._lane.holds(self._go):
            return
        self._due = None
        self._asked = True
        prompt = self._play.prompt(turn, self._trace.fixed_tokens, sub_agent=False)
        if self._trace.shared_ids:
            prompt = self._stage.commons.of(prompt, self._name)
        identity = Identity("", "model", self._name, evidence="trace")
        self._stage.world.ask(identity, prompt, self._stage.output_tokens(turn), self.step)


class _Child:
    """A sub-agent: a session of its own beside its parent, which may wait for its end."""

    def __init__(
        self, stage: Stage, play: Play, agent: SubAgent, parent: str, shared_ids: bool
    ) -> None:
        self._shared_ids = shared_ids
        self._stage = stage
        self._play = play
        self._agent = agent
        self._identity = Identity("", "model", parent, agent.agent_id, evidence="trace")
        self._ended: Callable[[float], None] | None = None

    def begin(self, now: float, ended: Callable[[float], None] | None) -> None:
        self._ended = ended
        self._ask(0)

    def _ask(self, index: int) -> None:
        turn = self._agent.turns[index]
        prompt = self._play.prompt(turn, self._agent.fixed_tokens, sub_agent=True)
        if self._shared_ids:
            prompt = self._stage.commons.of(prompt, self._identity.key)
        self._stage.world.ask(
            self._identity,
            prompt,
            self._stage.output_tokens(turn),
            lambda at: self._next(index + 1, at),
        )

    def _next(self, index: int, now: float) -> None:
        if index < len(self._agent.turns):
            think_s = self._stage.timing.think_s(self._agent.turns[index])
            self._stage.world.at(now + think_s, lambda _: self._ask(index))
        elif self._ended is not None:
            self._ended(now)
