"""A recorded agent conversation as values: turns, sub-agents, and block ids as runs.

Block ids of a request form a few contiguous runs, so they are kept as runs: 700 recorded
conversations hold 88 million ids but only 165 thousand runs.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class BlockIds:
    """An immutable sequence of block ids, stored as (first id, length) runs."""

    runs: tuple[tuple[int, int], ...]
    count: int

    @classmethod
    def of(cls, ids: Iterable[int]) -> "BlockIds":
        runs: list[tuple[int, int]] = []
        first = length = count = 0
        for block in ids:
            count += 1
            if length and block == first + length:
                length += 1
                continue
            if length:
                runs.append((first, length))
            first, length = block, 1
        if length:
            runs.append((first, length))
        return cls(tuple(runs), count)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        for first, length in self.runs:
            yield from range(first, first + length)

    def packed(self) -> "array[int]":
        """All ids as 64-bit integers, for slicing and comparing at memory speed."""
        ids = array("q")
        for first, length in self.runs:
            ids.extend(range(first, first + length))
        return ids

    def prefix(self, count: int) -> "BlockIds":
        """The first `count` ids (all of them when there are fewer)."""
        if count >= self.count:
            return self
        kept: list[tuple[int, int]] = []
        left = count
        for first, length in self.runs:
            if left <= 0:
                break
            kept.append((first, min(length, left)))
            left -= length
        return BlockIds(tuple(kept), count)

    def suffix(self, start: int) -> "BlockIds":
        """All but the first `start` ids."""
        kept: list[tuple[int, int]] = []
        skip = start
        for first, length in self.runs:
            if length > skip:
                kept.append((first + skip, length - skip))
            skip = max(0, skip - length)
        return BlockIds(tuple(kept), max(0, self.count - start))

    def extended(self, runs: Iterable[tuple[int, int]]) -> "BlockIds":
        """These ids and those of `runs` after them; adjoining runs become one."""
        joined = list(self.runs)
        count = self.count
        for first, length in runs:
            count += length
            if joined and first == sum(joined[-1]):
                joined[-1] = (joined[-1][0], joined[-1][1] + length)
            else:
                joined.append((first, length))
        return BlockIds(tuple(joined), count)

    def common_prefix(self, other: "BlockIds") -> int:
        """How many leading ids the two share."""
        if self.runs == other.runs:
            return self.count
        shared = 0
        mine, theirs = iter(self.runs), iter(other.runs)
        a_first = a_left = b_first = b_left = 0
        while True:
            if not a_left:
                a_first, a_left = next(mine, (0, 0))
            if not b_left:
                b_first, b_left = next(theirs, (0, 0))
            if not a_left or not b_left or a_first != b_first:
                return shared
            step = min(a_left, b_left)
            shared += step
            a_first, a_left = a_first + step, a_left - step
            b_first, b_left = b_first + step, b_left - step


@dataclass(frozen=True, slots=True)
class Turn:
    """One recorded request, times in seconds.

    `t_s` counts from the start of the conversation (of the sub-agent, inside one); `think_s`
    from the end of the turn before. `blocks` covers the whole blocks of the prompt; the tail
    (`input_tokens` mod the block size) has no id. `api_s` is None when it was not recorded.
    """

    t_s: float
    input_tokens: int
    output_tokens: int
    blocks: BlockIds
    think_s: float = 0.0
    api_s: float | None = None
    tool_result: bool = False


@dataclass(frozen=True, slots=True)
class SubAgent:
    """A conversation that its parent started; `waits` when the parent waits for its end."""

    agent_id: str
    t_s: float
    turns: tuple[Turn, ...]
    fixed_tokens: int
    waits: bool = True
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """One conversation: `steps` are its turns in order, sub-agents where they were started.

    `fixed_tokens` is what opens every prompt: tool definitions plus system text.
    `shared_ids` says that equal block ids in two traces mean equal text (scope "global").
    `start_s` is when the conversation began, from the start of the recording.
    """

    id: str
    block_size: int
    fixed_tokens: int
    steps: tuple[Turn | SubAgent, ...]
    shared_ids: bool = False
    models: tuple[str, ...] = ()
    start_s: float = 0.0

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(step for step in self.steps if isinstance(step, Turn))

    @property
    def sub_agents(self) -> tuple[SubAgent, ...]:
        return tuple(step for step in self.steps if isinstance(step, SubAgent))

    @property
    def request_count(self) -> int:
        return len(self.turns) + sum(len(agent.turns) for agent in self.sub_agents)


def distinct_agents(steps: Iterable[Turn | SubAgent]) -> tuple[Turn | SubAgent, ...]:
    """The steps, every sub-agent under an id of its own: one that was called again is listed again
    under the id it had, and two requests of a run must not have one name."""
    found: list[Turn | SubAgent] = []
    seen: set[str] = set()
    for step in steps:
        if isinstance(step, SubAgent):
            name, times = step.agent_id, 1
            while name in seen:
                times += 1
                name = f"{step.agent_id}.{times}"
            seen.add(name)
            found.append(replace(step, agent_id=name))
        else:
            found.append(step)
    return tuple(found)


def truncate(trace: Trace, context_tokens_max: int) -> Trace | None:
    """The part of a conversation that fits a context window, or None.

    None when its first request does not fit. Otherwise everything from the first turn that
    is too large is cut; a sub-agent is cut in the same way by itself, and dropped when
    nothing of it fits.
    """
    steps: list[Turn | SubAgent] = []
    for step in trace.steps:
        if isinstance(step, Turn):
            if step.input_tokens > context_tokens_max:
                break
            steps.append(step)
        else:
            fitting = _fitting(step.turns, context_tokens_max)
            if fitting:
                steps.append(replace(step, turns=fitting))
    has_turn = any(isinstance(step, Turn) for step in steps)
    return replace(trace, steps=tuple(steps)) if has_turn else None


def head(trace: Trace, turns_max: int) -> Trace:
    """The conversation up to and including its first `turns_max` turns."""
    steps: list[Turn | SubAgent] = []
    left = turns_max
    for step in trace.steps:
        if left == 0:
            break
        steps.append(step)
        left -= isinstance(step, Turn)
    return replace(trace, steps=tuple(steps))


def _fitting(turns: tuple[Turn, ...], context_tokens_max: int) -> tuple[Turn, ...]:
    for index, turn in enumerate(turns):
        if turn.input_tokens > context_tokens_max:
            return turns[:index]
    return turns
