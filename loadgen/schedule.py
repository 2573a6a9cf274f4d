"""Who plays what and when: the order of traces and the waits between turns, fixed by a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from loadgen.traces.model import Trace, Turn

Strategy = Literal["think", "original", "api"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share:
    """Every `count`-th thing, beginning with the one at `index`: what one of several workers has
    of the traces, users and arrivals of a run, so that each meets the other as in one process."""

    index: int = 0
    count: int = 1

    def has(self, number: int) -> bool:
        return number % self.count == self.index

    def of(self, things: Sequence[T]) -> Sequence[T]:
        return things[self.index :: self.count]


WHOLE = Share()


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits are cut at `think_cap_s`, multiplied by `think_scale` and played `time_scale` times as
    fast. The first turns of the users spread over `start_spread_s` engine seconds.

    `strategy` think: the recorded think time after the end of the turn before. original: the
    recorded distance of the two starts, so that a slower endpoint leaves less time to think, and
    never before that end. api: the recorded service time, times `api_scale`, and the think time
    from the start of the turn before; no earlier than its end either. `advance` is the part of
    its conversation, from … to, at which a user begins.
    """

    think_cap_s: float = 600.0
    think_scale: float = 1.0
    time_scale: float = 1.0
    start_spread_s: float = 30.0
    strategy: Strategy = "think"
    api_scale: float = 1.0
    advance: tuple[float, float] = (0.0, 0.0)

    def due(self, turn: Turn, before: Turn, began: float, ended: float) -> float:
        """When to send `turn`, given when the turn before was due and when its answer ended; all
        on the clock of real seconds."""
        if self.strategy == "think":
            return ended + self.think_s(turn)
        if self.strategy == "api" and before.api_s is not None:
            service_s = before.api_s * self.api_scale / self.time_scale
            return max(ended, began + service_s + self.think_s(turn))
        return max(ended, began + self._real_s(max(0.0, turn.t_s - before.t_s)))

    def think_s(self, turn: Turn) -> float:
        """Real seconds to wait between the end of the turn before and this one."""
        return self._real_s(turn.think_s)

    def first_turn(self, trace: Trace, seed: int) -> int:
        """The turn of a trace at which its first user begins."""
        turns = len(trace.turns)
        share = Random(f"advance {seed} {trace.id}").uniform(*self.advance)
        return min(turns - 1, int(share * turns))

    def _real_s(self, wait_s: float) -> float:
        return min(wait_s, self.think_cap_s) * self.think_scale / self.time_scale

    def starts_s(self, users: int, seed: int) -> list[float]:
        """Real seconds from the start of the run to each user's first turn; the first is 0."""
        random = Random(f"start {seed}")
        spread = self.start_spread_s / self.time_scale
        return [0.0, *sorted(random.uniform(0, spread) for _ in range(users - 1))][:users]


class TraceQueue:
    """Hands out traces in one seeded order, or as they began, each as play 0, 1, … of itself.

    Without `recycle` every trace is played once. With it the walk starts over and passes over
    traces in use, unless all are: then one is played twice at a time, under another play number.
    """

    def __init__(
        self,
        traces: Sequence[Trace],
        seed: int,
        recycle: bool,
        *,
        as_recorded: bool = False,
        share: Share = WHOLE,
    ) -> None:
        self._order = sorted(traces, key=lambda trace: trace.id)
        if as_recorded:
            self._order.sort(key=lambda trace: trace.start_s)
        else:
            Random(f"order {seed}").shuffle(self._order)
        self._order = list(share.of(self._order))
        self._recycle = recycle
        self._next = 0
        self._plays = dict.fromkeys((trace.id for trace in self._order), 0)
        self._in_use: dict[str, int] = dict.fromkeys(self._plays, 0)
        self._unfinished: list[tuple[Trace, int]] = []

    @property
    def traces(self) -> Sequence[Trace]:
        """Those of this share, in the order of play."""
        return self._order

    def resume(self, plays: Mapping[tuple[str, int], bool]) -> None:
        """Go on after an interruption: of every play begun, whether it is complete. Those that
        are not come first."""
        traces = {trace.id: trace for trace in self._order}
        for (name, play), complete in sorted(plays.items()):
            if name not in traces:  # another worker's
                continue
            self._plays[name] = max(self._plays[name], play + 1)
            if not complete:
                self._unfinished.append((traces[name], play))

    def take(self) -> tuple[Trace, int] | None:
        """The next trace and its play number, None when there are no more."""
        if self._unfinished:
            trace, play = self._unfinished.pop(0)
            self._in_use[trace.id] += 1
            return trace, play
        while not self._recycle and self._next < len(self._order):
            trace = self._step()
            if not self._plays[trace.id]:
                return self._hand_out(trace)
        if not self._recycle:
            return None
        for _ in self._order:
            trace = self._step()
            if not self._in_use[trace.id]:
                return self._hand_out(trace)
        return self._hand_out(self._step())

    def decline(self, trace: Trace, play: int) -> None:
        """Take back what was handed out but not begun; of one trace the last play first."""
        self.give_back(trace)
        assert self._plays[trace.id] == play + 1, f"{trace.id} was played on"
        self._plays[trace.id] = play

    def give_back(self, trace: Trace) -> None:
        assert self._in_use[trace.id] > 0, f"{trace.id} is not in use"
        self._in_use[trace.id] -= 1

    def _step(self) -> Trace:
        self._next += 1
        return self._order[(self._next - 1) % len(self._order)]

    def _hand_out(self, trace: Trace) -> tuple[Trace, int]:
        play = self._plays[trace.id]
        self._plays[trace.id] += 1
        self._in_use[trace.id] += 1
        return trace, play
