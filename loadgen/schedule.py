"""Who plays what and when: the order of traces and the waits between turns, fixed by a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from loadgen.traces.model import Trace, Turn


@dataclass(frozen=True, slots=True)
class Timing:
    """Think times are cut at `think_cap_s`, multiplied by `think_scale` and played `time_scale`
    times as fast. The first turns of the users spread over `start_spread_s` engine seconds."""

    think_cap_s: float = 600.0
    think_scale: float = 1.0
    time_scale: float = 1.0
    start_spread_s: float = 30.0

    def think_s(self, turn: Turn) -> float:
        """Real seconds to wait between the end of the turn before and this one."""
        return min(turn.think_s, self.think_cap_s) * self.think_scale / self.time_scale

    def starts_s(self, users: int, seed: int) -> list[float]:
        """Real seconds from the start of the run to each user's first turn; the first is 0."""
        random = Random(f"start {seed}")
        spread = self.start_spread_s / self.time_scale
        return [0.0, *sorted(random.uniform(0, spread) for _ in range(users - 1))][:users]


class TraceQueue:
    """Hands out traces in one seeded order, each as play 0, 1, … of itself.

    Without `recycle` every trace is played once. With it the walk starts over and passes over
    traces in use, unless all are: then one is played twice at a time, under another play number.
    """

    def __init__(self, traces: Sequence[Trace], seed: int, recycle: bool) -> None:
        self._order = sorted(traces, key=lambda trace: trace.id)
        Random(f"order {seed}").shuffle(self._order)
        self._recycle = recycle
        self._next = 0
        self._plays = dict.fromkeys((trace.id for trace in traces), 0)
        self._in_use: dict[str, int] = dict.fromkeys(self._plays, 0)
        self._unfinished: list[tuple[Trace, int]] = []

    def resume(self, plays: Mapping[tuple[str, int], bool]) -> None:
        """Go on after an interruption: of every play begun, whether it is complete. Those that
        are not come first."""
        traces = {trace.id: trace for trace in self._order}
        for (name, play), complete in sorted(plays.items()):
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
