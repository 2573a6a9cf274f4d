"""`kvproxy demo`: the same conversations through round robin and through kvproxy's default.

Four emulated replicas, a real proxy in front, synthetic agent conversations in scaled time. The
caches are large enough for the conversations, but not for every conversation on every replica.
"""

import asyncio
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from loadgen.children import ChildError, kvproxy_child
from loadgen.cli_types import COUNT
from loadgen.probe import EndpointError
from loadgen.report import pct, seconds, show_progress
from loadgen.run import run_load
from loadgen.run_values import Progress, RunResult, RunSettings
from loadgen.schedule import Timing
from loadgen.stats import arm
from loadgen.traces.errors import TraceError
from loadgen.traces.load import load_traces
from loadgen.traces.model import Trace, head
from loadgen.traces.synth import write_traces
from loadgen.versus.arms import forget

POLICIES = ("round_robin", "seconds")
CONTEXT_TOKENS_MAX = 64_000
RECORDED_TOKENS_MAX = 128_000
THINK_CAP_S = 60.0
OUTPUT_TOKENS_MAX = 300
PREFILL_TOK_S = 10_000
BLOCK_SIZE = 16
# Real time between chunks of a stream: at high time scales a chunk a token would be too many.
CHUNK_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """`hbm_tokens` is the cache of each replica. Without `traces` conversations are made up,
    `turns` the most of each; with them `requests` of theirs are replayed."""

    users: int = 16
    conversations: int = 32
    turns: int = 16
    replicas: int = 4
    hbm_tokens: int = 400_000
    time_scale: float = 20.0
    seed: int = 1
    policies: tuple[str, ...] = POLICIES
    traces: Path | None = None
    requests: int = 400


DEFAULTS = DemoSettings()


@click.command()
@click.option("--users", default=DEFAULTS.users, type=click.IntRange(1, 256),
              show_default=True, help="Conversations at a time.")  # fmt: skip
@click.option("--conversations", default=DEFAULTS.conversations, type=click.IntRange(1, 1000),
              show_default=True, help="Conversations in all; more take longer.")  # fmt: skip
@click.option("--time-scale", default=DEFAULTS.time_scale, type=click.FloatRange(1, 100),
              show_default=True, help="Engine seconds in a real second.")  # fmt: skip
@click.option("--seed", default=DEFAULTS.seed, show_default=True, help="Fixes the conversations.")
@click.option("--hbm-tokens", default="400k", type=COUNT, show_default=True,
              help="KV cache of each replica.")  # fmt: skip
@click.option("--policy", "policies", multiple=True, default=POLICIES, show_default=True,
              help="Policy to run; repeat to compare.")  # fmt: skip
@click.option("--traces", type=click.Path(exists=True, path_type=Path),
              help="Replay these recordings instead of made-up conversations.")  # fmt: skip
@click.option("--requests", default=DEFAULTS.requests, type=click.IntRange(1), show_default=True,
              help="Requests to send with --traces.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False),
              help="File for the result.")  # fmt: skip
def demo(json_file: Path | None, **given: Any) -> None:
    """See what routing by KV cache does, on this machine and without a GPU."""
    settings = DemoSettings(**given)
    console = Console()
    try:
        results = uvloop.run(_until_signal(console, settings))
    except (ChildError, EndpointError, TraceError) as error:
        raise click.ClickException(str(error)) from error
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        raise click.Abort from error
    console.print(comparison(results))
    if json_file is not None:
        arms = {"arms": [arm(policy, result.summary) for policy, result in results.items()]}
        json_file.write_bytes(orjson.dumps(arms, option=orjson.OPT_INDENT_2) + b"\n")


async def _until_signal(console: Console, settings: DemoSettings) -> dict[str, RunResult]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: children first."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await run_demo(console, settings)


async def run_demo(console: Console, settings: DemoSettings) -> dict[str, RunResult]:
    """Every policy's result, by policy."""
    traces = demo_traces(settings)
    requests = _request_count(traces, settings)
    console.print(
        f"{len(traces)} conversations of coding agents, {requests} requests, {settings.users} at a "
        f"time, {settings.time_scale:g} times as fast as life\n"
        f"{settings.replicas} emulated replicas, {settings.hbm_tokens // 1000}k tokens of KV cache "
        f"and {PREFILL_TOK_S // 1000}k prefill tokens/s each\n",
        highlight=False,
    )
    results: dict[str, RunResult] = {}
    async with kvproxy_child(_emulate(settings), settings.replicas) as replica_urls:
        for policy in settings.policies:
            for url in replica_urls:
                await forget(url)
            serve = _serve(policy, replica_urls, settings)
            async with kvproxy_child(serve, 1) as (proxy_url,):
                console.print(
                    f"[bold]{policy}[/bold]  metrics while it runs: {proxy_url}/metrics",
                    highlight=False,
                )
                results[policy] = await _replay(console, proxy_url, policy, traces, settings)
    return results


def demo_traces(settings: DemoSettings) -> list[Trace]:
    """The recordings asked for, or synthetic conversations that fit the demo: their first `turns`
    turns, those that start small enough."""
    if settings.traces is not None:
        return load_traces(settings.traces, RECORDED_TOKENS_MAX)
    wanted = settings.conversations
    with tempfile.TemporaryDirectory(prefix="kvproxy-demo-") as directory:
        # Two in three start small enough; three times as many are enough for any seed.
        write_traces(wanted * 3, settings.seed, Path(directory))
        traces = load_traces(Path(directory), CONTEXT_TOKENS_MAX)
    return [head(trace, settings.turns) for trace in traces[:wanted]]


def comparison(results: dict[str, RunResult]) -> Table:
    """One column per policy."""
    table = Table(title="The same conversations", title_justify="left")
    table.add_column("")
    for policy in results:
        table.add_column(policy, justify="right")
    summaries = [result.summary for result in results.values()]
    rows = {
        "requests": [str(summary["requests"]) for summary in summaries],
        "failed": [str(_failed(summary)) for summary in summaries],
        "hit rate predicted": [pct(summary["hit_rate_predicted"]) for summary in summaries],
        "hit rate reported": [pct(summary["hit_rate_reported"]) for summary in summaries],
        "hit rate possible": [pct(summary["hit_rate_bound"]) for summary in summaries],
        "predicted within a block": [
            pct(summary["predicted_within_block"]) for summary in summaries
        ],
        "ttft mean": [seconds(summary["ttft_mean_s"]) for summary in summaries],
        "ttft p50": [seconds(summary["ttft_p50_s"]) for summary in summaries],
        "ttft p95": [seconds(summary["ttft_p95_s"]) for summary in summaries],
        "requests per replica": [_balance(summary) for summary in summaries],
        "own delay of this client p99": [_own_delay(result) for result in results.values()],
    }
    for name, values in rows.items():
        table.add_row(name, *values)
    table.caption = "engine seconds"
    return table


# Defaults of `serve` that are seconds of engine time.
_SERVE_SECONDS = {
    "--score-move-margin-s": 1.0,
    "--admission-backlog-s": 1.0,
    "--admission-small-prefill-s": 1.0,
    "--admission-large-prefill-burst-s": 10.0,
}


def _emulate(settings: DemoSettings) -> list[str]:
    return [
        "emulate",
        *("--replicas", str(settings.replicas)),
        *("--port", "0"),
        *("--hbm-tokens", str(settings.hbm_tokens)),
        *("--block-size", str(BLOCK_SIZE)),
        *("--prefill-tok-s", str(PREFILL_TOK_S)),
        *("--time-scale", str(settings.time_scale)),
        *("--chunk-interval-s", str(CHUNK_INTERVAL_S)),
    ]


def _serve(policy: str, replica_urls: list[str], settings: DemoSettings) -> list[str]:
    """The proxy lives in real time, so what it is told in seconds is scaled."""
    arguments = ["serve", "--policy", policy, "--port", "0"]
    arguments += ["--score-prefill-tok-s", f"{PREFILL_TOK_S * settings.time_scale:.0f}"]
    for flag, engine_s in _SERVE_SECONDS.items():
        arguments += [flag, f"{engine_s / settings.time_scale:.4f}"]
    for url in replica_urls:
        arguments += ["--replica", url]
    return arguments


async def _replay(
    console: Console, url: str, policy: str, traces: list[Trace], settings: DemoSettings
) -> RunResult:
    run = RunSettings(
        url=url,
        users=settings.users,
        requests=settings.requests if settings.traces else None,
        timing=Timing(think_cap_s=THINK_CAP_S, time_scale=settings.time_scale),
        output_tokens_max=None if settings.traces else OUTPUT_TOKENS_MAX,
        seed=settings.seed,
        engine_block_size=BLOCK_SIZE,
    )
    goal = f" of {_request_count(traces, settings)}"
    shown: list[asyncio.Task[None]] = []

    def start(progress: Progress) -> None:
        line = show_progress(console, progress, "  ", goal, BLOCK_SIZE)
        shown.append(asyncio.create_task(line))

    began = time.monotonic()
    try:
        result = await run_load(run, traces, on_start=start)
    finally:
        for task in shown:
            task.cancel()
        await asyncio.gather(*shown, return_exceptions=True)
    console.print(f"  done in {time.monotonic() - began:.0f} s", highlight=False)
    return result


def _request_count(traces: list[Trace], settings: DemoSettings) -> int:
    return settings.requests if settings.traces else sum(t.request_count for t in traces)


def _own_delay(result: RunResult) -> str:
    """What this client's lateness may add to the times above, in engine seconds as they are."""
    client, scale = result.summary["client"], result.summary["time_scale"]
    assert isinstance(client, dict)
    assert isinstance(scale, float | int)
    late = seconds(client["lag_p99_s"] * scale)
    return late if result.valid else f"{late}, more than allowed"


def _failed(summary: dict[str, object]) -> int:
    errors = summary["errors"]
    assert isinstance(errors, dict)
    return sum(errors.values())


def _balance(summary: dict[str, object]) -> str:
    rows = summary["replicas"]
    assert isinstance(rows, dict)
    return " / ".join(str(row["requests"]) for row in rows.values())
