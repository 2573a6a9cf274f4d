"""`kvproxy loadgen`: replay traces against an endpoint, make synthetic ones, inspect a set."""

import asyncio
import os
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar, cast

import click
import orjson
import uvloop
from rich.console import Console

from loadgen.arrivals import Arrivals, Kind
from loadgen.cli_load import load_of, load_options
from loadgen.cli_types import COUNT, DURATION, Human
from loadgen.compare_cli import compare
from loadgen.dialects import DIALECTS
from loadgen.emulate_cli import emulate
from loadgen.forecast import Fleet, forecast, forecast_table
from loadgen.output.thresholds import EXIT_FAILED, parse_threshold
from loadgen.probe import EndpointError
from loadgen.ramp.options import ramp_of, ramp_options, slo_of
from loadgen.report import ramp_text, show_progress, summary_table
from loadgen.resume import ResumeError
from loadgen.run import run_load
from loadgen.run_values import Progress, RunResult, RunSettings
from loadgen.schedule import Strategy, Timing
from loadgen.stats import arm, summarise
from loadgen.traces.model import Trace
from loadgen.traces_cli import NO_TRACES, TRACES, inspect, load_or_explain, pack, synth
from loadgen.wire import Endpoint
from loadgen.workers.crew import WorkerError
from loadgen.workload_cli import (
    cold_warm_command,
    hit_rate_command,
    smoke,
    working_set_command,
)

__all__ = ["emulate", "loadgen"]

T = TypeVar("T")

EXIT_INVALID = 3
THRESHOLD = Human("threshold", parse_threshold)


@click.group(invoke_without_command=True)
@click.option("--traces", type=TRACES, help="Directory of trace files, or one file.")
@click.option("--url", help="Endpoint to load, e.g. http://127.0.0.1:8080.")
@click.option("--users", default=8, type=click.IntRange(1, 100_000), show_default=True,
              help="Conversations at a time all along; a ramp begins with them.")  # fmt: skip
@click.option("--duration", type=DURATION, help="Stop sending after this real time (90s, 10m).")
@click.option("--requests", type=COUNT, help="Stop after this many requests.")
@click.option("--warm-up", "warm_up", default="0s", type=DURATION, show_default=True,
              help="Leave requests due in this first real time out of all figures; charts and "
              "files have them.")  # fmt: skip
@click.option("--think-scale", default=1.0, type=click.FloatRange(min=0), show_default=True,
              help="Multiply think times.")  # fmt: skip
@click.option("--think-cap", default="600s", type=DURATION, show_default=True,
              help="Longest think time, before scaling.")  # fmt: skip
@click.option("--time-scale", default=1.0, type=click.FloatRange(min=0.001), show_default=True,
              help="Engine seconds per real second: divides think times, multiplies the "
              "latencies reported. Use the emulator's own --time-scale.")  # fmt: skip
@click.option("--start-spread", default="30s", type=DURATION, show_default=True,
              help="Users begin spread over this time.")  # fmt: skip
@click.option("--timing", "strategy", default="think", show_default=True,
              type=click.Choice(["think", "original", "api"]),
              help="Wait the think time after an answer; or keep the recorded distance of starts; "
              "or the recorded service time (times --api-scale) plus the think time.")  # fmt: skip
@click.option("--api-scale", default=1.0, type=click.FloatRange(min=0), show_default=True,
              help="With --timing api: multiply recorded service times.")  # fmt: skip
@click.option("--advance", nargs=2, default=(0.0, 0.0), type=click.FloatRange(0, 1),
              show_default=True, help="The first users begin at a part of their conversation "
              "between these; 0 1 is as if the load had been going on.")  # fmt: skip
@click.option("--arrivals", type=click.Choice(["constant", "poisson", "recorded"]),
              help="Begin conversations at a rate, or when the traces did, instead of keeping "
              "--users of them.")  # fmt: skip
@click.option("--rate", default=1.0, type=click.FloatRange(min=0, min_open=True),
              show_default=True, help="With --arrivals: conversations a second; for recorded, how "
              "many times as fast.")  # fmt: skip
@click.option("--max-context", default="128k", type=COUNT, show_default=True,
              help="Cut conversations here; leave out those that start larger.")  # fmt: skip
@click.option("--warm-prefix-pct", default=0.5, type=click.FloatRange(0, 1), show_default=True,
              help="Part of tools + system text that all conversations share.")  # fmt: skip
@click.option("--max-output", type=COUNT, help="Cap on the recorded output length.")
@click.option("--seed", default=1, show_default=True, help="Fixes content and order.")
@click.option("--model", help="Model name; default: the endpoint's first.")
@click.option("--api-key-env", metavar="VAR", help="Environment variable with the API key.")
@click.option("--dialect", default="chat", type=click.Choice(sorted(DIALECTS)), show_default=True,
              help="API to speak.")  # fmt: skip
@click.option("--engine-extras/--no-engine-extras", default=True, show_default=True,
              help="Ask for the exact output length (ignore_eos, min_tokens).")  # fmt: skip
@click.option("--engine-block-size", default=16, type=click.IntRange(1), show_default=True,
              help="Tokens in a block of the engines' caches, for the bound.")  # fmt: skip
@click.option("--grace", default="30s", type=DURATION, show_default=True,
              help="Time for requests in flight at the end.")  # fmt: skip
@ramp_options
@click.option("--max-client-lag", type=DURATION,
              help="Largest p99 of this client's own delay before the run counts as invalid "
              "(exit status 3); default 5 ms or 1 % of the TTFT SLO.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, file_okay=False),
              help="Directory for the results; report.html shows them.")  # fmt: skip
@click.option("--scrape", multiple=True, metavar="URL",
              help="Replica whose /metrics go into the report; repeat for each.")  # fmt: skip
@click.option("--fail-if", "fail_if", multiple=True, type=THRESHOLD, metavar="FIGURE>NUMBER",
              help="Exit with status 99 when a figure of the summary is so, e.g. "
              "ttft_p95_s>0.8, slo.attainment<95% or ramp.users<20; repeat for more.")  # fmt: skip
@load_options
@click.option("--resume", is_flag=True, help="Go on with the interrupted run under --output.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False),
              help="File for the result in the shape that comparisons use.")  # fmt: skip
@click.option(
    "--dry-run",
    is_flag=True,
    help="Ask nobody: print what the run would ask for (--json, --output: as JSON).",
)
@click.option("--replicas", default=1, type=click.IntRange(1, 4096), show_default=True,
              help="With --dry-run: how many engines to assume.")  # fmt: skip
@click.option(
    "--hbm-tokens",
    type=COUNT,
    help="With --dry-run: cache of each, for the bound of one LRU of their size.",
)
@click.pass_context
def loadgen(ctx: click.Context, /, **options: object) -> None:
    """Replay recorded agent conversations against an endpoint, closed loop.

    Ends after --duration or --requests (conversations are then recycled under fresh text), or
    when every trace has been played once.
    """
    if ctx.invoked_subcommand is None:
        _replay(options)


for command in (
    synth,
    inspect,
    pack,
    compare,
    smoke,
    cold_warm_command,
    hit_rate_command,
    working_set_command,
):
    loadgen.add_command(command)


def _replay(options: dict[str, object]) -> None:
    traces_path, url = options["traces"], options["url"]
    if not isinstance(traces_path, Path) or not isinstance(url, str):
        needed = "--traces and --url are needed (or a subcommand, see --help)"
        raise click.UsageError(needed if traces_path else f"{needed}. {NO_TRACES}")
    try:
        settings = _settings(url, options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    context = options["max_context"]
    assert isinstance(context, int)
    traces = load_or_explain(traces_path, context)
    output, json_file = options["output"], options["json_file"]
    assert output is None or isinstance(output, Path)
    if options["dry_run"]:
        if options["resume"] or options["fail_if"] or options["scrape"]:
            raise click.UsageError("--dry-run has no --resume, --fail-if or --scrape")
        _forecast(settings, traces, options)
        return
    if options["resume"] and output is None:
        raise click.UsageError("--resume needs the --output of the run to go on with")
    _check_thresholds(options["fail_if"], settings)
    alone = settings.ramp is None and settings.arrivals is None and not settings.recycles
    if alone and len(traces) < settings.users:
        few = f"{len(traces)} conversations, played once, are not {settings.users} users"
        click.echo(f"{few}: --duration or --requests plays them again", err=True)
    result = _played(settings, traces, output, resume=bool(options["resume"]))
    _show(result, output)
    if isinstance(json_file, Path):
        arms = {"arms": [arm(policy_of(result), result.summary)]}
        json_file.write_bytes(orjson.dumps(arms, option=orjson.OPT_INDENT_2) + b"\n")
    asked = result.summary["requests"] or result.summary["cancelled"]
    if asked and not result.summary["ok"]:
        said = result.summary["last_error"] or "all of them still waited when the run ended"
        raise click.ClickException(f"no request was answered, the last failure: {said}")
    if not result.valid:
        raise SystemExit(EXIT_INVALID)
    _hold_to(options["fail_if"], result)


def _show(result: RunResult, output: Path | None) -> None:
    out = Console()
    out.print(summary_table(result.summary))
    if isinstance(ramp := result.record["ramp"], dict):
        out.print(ramp_text(ramp), highlight=False)
    for said in cast(list[str], result.record["unread"]):
        click.echo(said, err=True)
    out.print(f"ended: {result.record['ended_because']}", highlight=False)
    if output is not None:
        out.print(f"report: {output / 'report.html'}", highlight=False, soft_wrap=True)


def _played(
    settings: RunSettings, traces: list[Trace], output: Path | None, *, resume: bool
) -> RunResult:
    console = Console(stderr=True)
    try:
        return uvloop.run(_with_progress(console, settings, traces, output, resume))
    except ResumeError as error:
        raise click.UsageError(str(error)) from error
    except EndpointError as error:
        raise click.ClickException(f"{settings.url}: {error}") from error
    except WorkerError as error:
        raise click.ClickException(f"{error}; with --output, --resume goes on") from error
    except KeyboardInterrupt as error:
        if output is not None and settings.ramp is None:
            click.echo(f"interrupted; --resume with --output {output} goes on", err=True)
        raise click.Abort from error


def _forecast(settings: RunSettings, traces: list[Trace], options: dict[str, object]) -> None:
    replicas, hbm_tokens = options["replicas"], options["hbm_tokens"]
    assert isinstance(replicas, int)
    assert hbm_tokens is None or isinstance(hbm_tokens, int)
    try:
        with Console(stderr=True).status("working out every request"):
            record = forecast(settings, traces, Fleet(replicas, hbm_tokens))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    Console().print(forecast_table(record))
    text = orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n"
    if isinstance(json_file := options["json_file"], Path):
        json_file.write_bytes(text)
    if isinstance(output := options["output"], Path):
        output.mkdir(parents=True, exist_ok=True)
        (output / "forecast.json").write_bytes(text)


def _check_thresholds(thresholds: object, settings: RunSettings) -> None:
    """A figure that no summary has is found now, not at the end of the run."""
    assert isinstance(thresholds, tuple)
    known = [*summarise([], 1), "duration_s", "loop_lag_s", "client"]
    for one in thresholds:
        for part, given in (("slo", settings.slo), ("ramp", settings.ramp)):
            if one.root == part and given is None:
                raise click.UsageError(f"--fail-if {one.text!r} needs --{part}")
        if one.root not in [*known, "slo", "ramp"]:
            near = ", ".join(get_close_matches(one.root, known))
            raise click.UsageError(
                f"--fail-if {one.text!r}: the summary has no {one.root!r}"
                + (f"; did you mean {near}?" if near else "")
            )


def _hold_to(thresholds: object, result: RunResult) -> None:
    assert isinstance(thresholds, tuple)
    figures = result.summary | {"ramp": result.record["ramp"]}
    try:
        crossed = [why for one in thresholds if (why := one.crossed(figures))]
    except ValueError as error:
        raise click.UsageError(f"--fail-if: {error}") from error
    for why in crossed:
        click.echo(f"FAILED {why}", err=True)
    if crossed:
        raise SystemExit(EXIT_FAILED)


def _settings(url: str, given: dict[str, object]) -> RunSettings:
    def of(kind: type[T], name: str) -> T:
        value = given[name]
        assert isinstance(value, kind), f"{name} is {value!r}"
        return value

    def maybe(kind: type[T], name: str) -> T | None:
        return None if given[name] is None else of(kind, name)

    Endpoint(url)  # says what is wrong with it before anything starts
    scraped = of(tuple, "scrape")
    variable = maybe(str, "api_key_env")
    if variable is not None and not os.environ.get(variable):
        raise ValueError(f"--api-key-env: the variable {variable} is not set")
    for name in ("requests", "duration", "max_output"):
        if given[name] == 0:
            raise ValueError(f"--{name.replace('_', '-')} 0 would ask for nothing")
    warm_up_s, lasts_s = of(float, "warm_up"), maybe(float, "duration")
    if warm_up_s and given["ramp"]:
        raise ValueError("--warm-up is for a fixed number of users: --ramp has --settle")
    if lasts_s is not None and warm_up_s >= lasts_s:
        raise ValueError("--warm-up as long as --duration would leave nothing")
    kind = maybe(str, "arrivals")
    return RunSettings(
        url=url,
        users=of(int, "users"),
        duration_s=lasts_s,
        requests=maybe(int, "requests"),
        timing=Timing(
            think_cap_s=of(float, "think_cap"),
            think_scale=of(float, "think_scale"),
            time_scale=of(float, "time_scale"),
            start_spread_s=of(float, "start_spread"),
            strategy=cast(Strategy, of(str, "strategy")),
            api_scale=of(float, "api_scale"),
            advance=cast(tuple[float, float], of(tuple, "advance")),
        ),
        warm_prefix_pct=of(float, "warm_prefix_pct"),
        output_tokens_max=maybe(int, "max_output"),
        seed=of(int, "seed"),
        model=maybe(str, "model"),
        # Keys from files often end in a newline, which no header can hold.
        api_key=os.environ[variable].strip() if variable is not None else None,
        engine_extras=of(bool, "engine_extras"),
        engine_block_size=of(int, "engine_block_size"),
        grace_s=of(float, "grace"),
        slo=slo_of(given),
        ramp=ramp_of(given, of(int, "users")),
        client_lag_max_s=maybe(float, "max_client_lag"),
        dialect=of(str, "dialect"),
        warm_up_s=warm_up_s,
        arrivals=Arrivals(cast(Kind, kind), of(float, "rate")) if kind is not None else None,
        scrape=tuple(Endpoint(replica).url for replica in scraped),
        **load_of(given),
    )


def policy_of(result: RunResult) -> str:
    """The routing policy the endpoint named, empty when it named none."""
    return next((sample.policy for sample in result.samples if sample.policy), "")


async def _with_progress(
    console: Console,
    settings: RunSettings,
    traces: list[Trace],
    output: Path | None,
    resume: bool,
) -> RunResult:
    shown: list[asyncio.Task[None]] = []
    goal = f" of {settings.requests}" if settings.requests else ""

    def start(progress: Progress) -> None:
        line = show_progress(console, progress, "", goal, settings.engine_block_size)
        shown.append(asyncio.create_task(line))

    try:
        return await run_load(settings, traces, output, start, resume=resume)
    finally:
        for task in shown:
            task.cancel()
