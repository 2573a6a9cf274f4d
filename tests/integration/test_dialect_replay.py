"""The same conversations in all four APIs against an emulated engine: prompts as planned, and
hits as an unlimited cache would have them."""

import pytest

from loadgen.dialects import DIALECTS
from loadgen.emulator import EmulatorSettings, emulated
from loadgen.run import RunSettings, run_load
from loadgen.schedule import Timing
from loadgen.traces.model import Trace
from tests.support.traces import trace, turn

FAST = EmulatorSettings(time_scale=1000.0)


def conversation(number: int) -> Trace:
    """Declares tools, calls one, then goes back to where it parted from an older prompt."""
    turns = [
        turn(4000, range(1, 251), output_tokens=20),
        turn(4400, range(1, 276), output_tokens=30, tool_result=True),
        turn(4320, [*range(1, 241), *range(500, 530)], output_tokens=10),
        turn(4640, [*range(1, 241), *range(500, 550)], output_tokens=10, tool_result=True),
    ]
    return trace(turns, f"t{number}", fixed=2400)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_prompts_have_the_planned_tokens(dialect: str) -> None:
    traces = [conversation(n) for n in range(3)]
    timing = Timing(start_spread_s=0.0)
    async with emulated(FAST) as (url,):
        result = await run_load(RunSettings(url, 2, timing=timing, dialect=dialect), traces)
    summary = result.summary
    assert summary["errors"] == {}
    assert summary["requests"] == 12
    for sample in result.samples:
        assert sample.prompt_tokens == sample.planned_tokens
        assert sample.completion_tokens is not None
        assert 0 <= sample.trace_tokens - sample.planned_tokens < 20
    assert summary["hit_rate_reported"] == pytest.approx(summary["hit_rate_bound"], abs=0.001)
