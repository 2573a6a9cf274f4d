import io

from click.testing import CliRunner
from rich.console import Console

from loadgen.demo import POLICIES, DemoSettings, comparison, demo, demo_traces, run_demo
from loadgen.stats import arm

SMALL = DemoSettings(
    users=3, conversations=3, turns=2, replicas=2, hbm_tokens=200_000, time_scale=100
)


def test_the_demo_plays_conversations_that_fit() -> None:
    traces = demo_traces(DemoSettings(conversations=10, turns=5))
    assert len(traces) == 10
    assert all(1 <= len(trace.turns) <= 5 for trace in traces)
    assert max(turn.input_tokens for trace in traces for turn in trace.turns) <= 64_000
    assert traces == demo_traces(DemoSettings(conversations=10, turns=5))
    assert traces != demo_traces(DemoSettings(conversations=10, turns=5, seed=2))


async def test_both_policies_play_the_same_requests() -> None:
    console = Console(file=io.StringIO(), width=160)
    results = await run_demo(console, SMALL)
    assert tuple(results) == POLICIES
    plain, default = (result.summary for result in results.values())
    assert plain["errors"] == default["errors"] == {}
    assert plain["requests"] == default["requests"]
    assert plain["prompt_tokens"] == default["prompt_tokens"]
    assert [arm(p, r.summary)["policy"] for p, r in results.items()] == list(POLICIES)
    console.print(comparison(results))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "/metrics" in shown
    assert "hit rate reported" in shown
    assert "own delay of this client p99" in shown


def test_help_tells_the_options() -> None:
    text = CliRunner().invoke(demo, ["--help"]).output
    assert all(f"--{name}" in text for name in ("users", "conversations", "time-scale", "json"))
