"""How long the prompts of scaled-down agent conversations are, turn by turn.

Recorded conversations where they are at hand, else synthetic ones; all token counts divided, so
that a small engine with a small cache meets the same growth, rewinds and evictions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from loadgen.traces.load import read_traces
from loadgen.traces.model import Trace
from loadgen.traces.synth import synthesise
from loadgen.traces.weka import parse_trace
from tests.support.shared import shared_dir


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens of one prompt, of what it shares with the prompt before, and of its answer."""

    prompt: int
    shared: int
    answer: int
    tool_result: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """One conversation."""

    name: str
    steps: tuple[Step, ...]


def shapes(
    *, divide_by: int, prompt_max: int, steps_max: int, requests: int, seed: int
) -> tuple[list[Shape], str]:
    """Conversations with `requests` steps in all, and where they come from.

    A conversation is cut where its prompt would exceed `prompt_max` (after division) and after
    `steps_max` steps; one that would have fewer than three is left out.
    """
    folder = shared_dir()
    recorded = folder is not None and (folder / "traces" / "traces").is_dir()
    if recorded:
        assert folder is not None
        traces, source = read_traces(folder / "traces" / "traces"), "recorded"
    else:
        traces, source = _synthetic(seed), "synthetic"
    chosen: list[Shape] = []
    left = requests
    for trace in traces:
        steps = _steps(trace, divide_by, prompt_max)[: min(steps_max, left)]
        if len(steps) >= 3:
            chosen.append(Shape(trace.id, tuple(steps)))
            left -= len(steps)
        if left < 3:
            break
    return chosen, source


def _synthetic(seed: int) -> Iterator[Trace]:
    for number, trace in enumerate(synthesise(200, seed)):
        yield parse_trace(orjson.dumps(trace), f"synthetic-{number}")


def _steps(trace: Trace, divide_by: int, prompt_max: int) -> list[Step]:
    steps: list[Step] = []
    before = None
    for turn in trace.turns:
        if turn.input_tokens // divide_by > prompt_max:
            break
        shared = before.blocks.common_prefix(turn.blocks) * trace.block_size if before else 0
        steps.append(
            Step(
                turn.input_tokens // divide_by,
                shared // divide_by,
                max(1, turn.output_tokens // divide_by),
                turn.tool_result,
            )
        )
        before = turn
    return steps
