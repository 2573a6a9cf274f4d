"""`loadgen compare`: the same conversations through several routers or policies."""

import contextlib
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import click
import orjson
import uvloop
from rich.console import Console

from loadgen.children import ChildError, kvproxy_child
from loadgen.cli_types import COUNT, DURATION
from loadgen.probe import EndpointError
from loadgen.run_values import Progress, RunResult, RunSettings
from loadgen.schedule import Timing
from loadgen.traces_cli import load_or_explain
from loadgen.versus.arms import Contender, play, room_tokens
from loadgen.versus.attainable import attainable
from loadgen.versus.outcome import judge, table
from loadgen.warm import Warm
from loadgen.wire import Endpoint


@click.command()
@click.option("--traces", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--arm", "arms", multiple=True, metavar="NAME=URL",
              help="Endpoint to compare; others are held against the first.")  # fmt: skip
@click.option("--policy", "policies", multiple=True,
              help="Arm: kvproxy with this policy in front of the --replica URLs.")  # fmt: skip
@click.option("--emulate", "emulated", multiple=True, metavar="NAME=FLAGS",
              help="Arm: an emulator of its own with these flags of `kvproxy emulate`, e.g. "
              "hbm='--hbm-tokens 300k'.")  # fmt: skip
@click.option("--replica", "replicas", multiple=True, metavar="URL",
              help="Engine behind the arms; its cache is emptied before every run.")  # fmt: skip
@click.option("--conversations", default=32, type=click.IntRange(1), show_default=True,
              help="Traces to play, each once.")  # fmt: skip
@click.option("--repeats", default=3, type=click.IntRange(1, 100), show_default=True,
              help="Runs of each arm, in turn; each repeat has a seed of its own.")  # fmt: skip
@click.option("--users", default=8, type=click.IntRange(1, 100_000), show_default=True)
@click.option("--think-cap", default="600s", type=DURATION, show_default=True)
@click.option("--time-scale", default=1.0, type=click.FloatRange(min=0.001), show_default=True)
@click.option("--max-context", default="128k", type=COUNT, show_default=True)
@click.option("--max-output", type=COUNT, help="Cap on the recorded output length.")
@click.option("--cache-tokens", type=COUNT,
              help="Room for KV in all replicas together, for the bounds; default: what the "
              "--replica URLs say of themselves.")  # fmt: skip
@click.option("--engine-block-size", default=16, type=click.IntRange(1), show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False))
def compare(
    *,
    traces: Path,
    arms: tuple[str, ...],
    policies: tuple[str, ...],
    emulated: tuple[str, ...],
    replicas: tuple[str, ...],
    conversations: int,
    repeats: int,
    users: int,
    think_cap: float,
    time_scale: float,
    max_context: int,
    max_output: int | None,
    cache_tokens: int | None,
    engine_block_size: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Which of several endpoints serves the same conversations better, and whether that is chance.

    Every arm gets the same requests at the same times from empty caches; differences are taken
    request by request, with a bootstrap over conversations.
    """
    contenders = [
        *_contenders(arms, policies, replicas),
        *(_emulator(given, time_scale) for given in emulated),
    ]
    if len({one.name for one in contenders}) != len(contenders) or len(contenders) < 2:
        raise click.UsageError("give two arms or more, each under its own name")
    settings = RunSettings(
        url="",
        users=users,
        timing=Timing(think_cap_s=think_cap, time_scale=time_scale),
        output_tokens_max=max_output,
        engine_block_size=engine_block_size,
        seed=seed,
    )
    console = Console(stderr=True)
    try:
        chosen = load_or_explain(traces, max_context)[:conversations]
        playing = play(
            contenders, settings, chosen, partial(_tell, console), repeats=repeats, reset=replicas
        )
        results: dict[str, list[RunResult]] = uvloop.run(playing)
        room = cache_tokens or uvloop.run(room_tokens(replicas))
    except (ChildError, EndpointError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt as error:
        raise click.Abort from error
    warm = Warm.of(chosen, settings.warm_prefix_pct)
    within = partial(attainable, traces=chosen, warm=warm, capacity_tokens=room) if room else None
    found = judge(results, engine_block_size, within)
    Console().print(table(found))
    if json_file is not None:
        told = {"arms": [one.as_json() for one in found]}
        json_file.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")


def _contenders(
    arms: tuple[str, ...], policies: tuple[str, ...], replicas: tuple[str, ...]
) -> list[Contender]:
    if policies and not replicas:
        raise click.UsageError("--policy needs the --replica URLs to put kvproxy in front of")
    found = []
    for arm in arms:
        name, _, url = arm.partition("=")
        try:
            Endpoint(url)
        except ValueError as error:
            raise click.UsageError(f"--arm takes NAME=URL: {error}") from error
        found.append(Contender(name, partial(_elsewhere, url)))
    found += [Contender(policy, _proxy(policy, replicas)) for policy in policies]
    return found


def _emulator(given: str, time_scale: float) -> Contender:
    name, _, flags = given.partition("=")
    try:
        arguments = ["emulate", "--port", "0", "--time-scale", str(time_scale), *shlex.split(flags)]
    except ValueError as error:
        raise click.UsageError(f"--emulate {name}: {error}") from error

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[str]:
        async with kvproxy_child(arguments, 1) as (url,):
            yield url

    return Contender(name, serving)


@contextlib.asynccontextmanager
async def _elsewhere(url: str) -> AsyncIterator[str]:
    yield url


def _proxy(
    policy: str, replicas: tuple[str, ...]
) -> Callable[[], AbstractAsyncContextManager[str]]:
    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[str]:
        arguments = ["serve", "--policy", policy, "--port", "0"]
        for url in replicas:
            arguments += ["--replica", url]
        async with kvproxy_child(arguments, 1) as (url,):
            yield url

    return serving


def _tell(console: Console, repeat: int, name: str, progress: Progress) -> None:
    console.print(f"repeat {repeat + 1}: {name}, {progress.users} users", highlight=False)
