"""The command line's part that is about who sends: processes, limits, trouble made on purpose."""

from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

import click

from loadgen.chaos import Command, Faults
from loadgen.cli_types import COUNT, DURATION
from loadgen.limits import Limits
from loadgen.run_values import Breaker

F = TypeVar("F", bound=Callable[..., Any])

_SHARE = click.FloatRange(0, 1)
_OPTIONS = (
    click.option("--workers", default=1, type=click.IntRange(1, 256), show_default=True,
                 help="Processes that share the users, when one core is not enough for them."),
    click.option("--at", "commands", multiple=True, nargs=2, type=(DURATION, str),
                 metavar="TIME CMD", help="Run a shell command so long after the start, e.g. "
                 "--at 30s 'kill -9 $PID'; repeat for more. The report marks them."),
    click.option("--aborts", default=0.0, type=_SHARE, show_default=True,
                 help="Share of requests whose client hangs up at a random point."),
    click.option("--slow-readers", default=0.0, type=_SHARE, show_default=True,
                 help="Share of requests that are read slowly; latencies leave them out."),
    click.option("--slow-bytes-per-s", default="2k", type=COUNT, show_default=True,
                 help="How fast slow readers read."),
    click.option("--max-in-flight", type=click.IntRange(1), help="Most requests in flight."),
    click.option("--max-prefills", type=click.IntRange(1),
                 help="Most requests in flight without a first token."),
    click.option("--max-decodes", type=click.IntRange(1),
                 help="No more requests while so many are being streamed."),
    click.option("--input-tokens-per-min", type=COUNT,
                 help="Limit on prompt tokens that no cache could hold."),
    click.option("--output-tokens-per-min", type=COUNT, help="Limit on tokens asked for."),
    click.option("--max-failures", default=30, type=click.IntRange(0), show_default=True,
                 help="The run ends after so many requests in a row without any answer; "
                 "0 = never."),
    click.option("--failure-window", default="0s", type=DURATION, show_default=True,
                 help="... and no answer for so long."),
)  # fmt: skip


class Load(TypedDict):
    """The part of the settings that these options decide."""

    workers: int
    faults: Faults
    commands: tuple[Command, ...]
    limits: Limits
    breaker: Breaker


def load_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def load_of(given: dict[str, Any]) -> Load:
    """ValueError, for a person, when the options do not go together."""
    if given["aborts"] + given["slow_readers"] > 1:
        raise ValueError("--aborts and --slow-readers are more than all requests together")
    for name in ("slow_bytes_per_s", "input_tokens_per_min", "output_tokens_per_min"):
        if given[name] == 0:
            raise ValueError(f"--{name.replace('_', '-')} 0 would let nothing pass")
    limits = Limits(
        given["max_in_flight"],
        given["max_prefills"],
        given["max_decodes"],
        given["input_tokens_per_min"],
        given["output_tokens_per_min"],
    )
    if limits.any and given["workers"] > 1:
        raise ValueError("limits on requests or tokens need one process: leave out --workers")
    return Load(
        workers=given["workers"],
        faults=Faults(given["aborts"], given["slow_readers"], float(given["slow_bytes_per_s"])),
        commands=tuple(Command(at_s, text) for at_s, text in given["commands"]),
        limits=limits,
        breaker=Breaker(given["max_failures"], given["failure_window"]),
    )
