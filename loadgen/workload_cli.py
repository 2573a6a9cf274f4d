"""`loadgen smoke`, `cold-warm`, `hit-rate`, `working-set`: the made workloads, a table each."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click
import uvloop
from rich.console import Console
from rich.table import Table

from kvproxy.core.units import parse_count
from loadgen.cli_types import Human
from loadgen.probe import EndpointError
from loadgen.report import pct, seconds
from loadgen.run import run_load
from loadgen.run_values import RunResult, RunSettings
from loadgen.sample import Sample
from loadgen.schedule import Timing
from loadgen.stats import hit_rates, spread
from loadgen.traces.model import Trace
from loadgen.wire import Endpoint
from loadgen.workloads import cold_warm, doubling, hit_rate, working_set


def _tokens(text: str) -> int:
    tokens = parse_count(text)
    if tokens < 1:
        raise ValueError(f"{text!r}: at least one token is needed")
    return tokens


TOKENS = Human("tokens", _tokens)
F = TypeVar("F", bound=Callable[..., Any])
# A second answer this much faster than the first has hit something, whatever usage says.
FASTER = 0.5
_KNOBS = (
    "Is prefix caching on (vLLM: --enable-prefix-caching), is the cache larger than the prompt, "
    "and do both requests reach one replica?"
)


def endpoint_options(command: F) -> F:
    for option in (
        click.option("--seed", default=1, show_default=True, help="Other text, so a cold start."),
        click.option("--engine-block-size", default=16, type=click.IntRange(1), show_default=True),
        click.option("--time-scale", default=1.0, type=click.FloatRange(min=0.001),
                     show_default=True, help="The emulator's."),
        click.option("--prompt-tokens", default="8k", type=TOKENS, show_default=True),
        click.option("--url", required=True, help="Endpoint, e.g. http://127.0.0.1:8080."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@endpoint_options
def smoke(prompt_tokens: int, **given: Any) -> None:
    """Send one prompt twice and say whether the second was answered from cache."""
    result = _run(cold_warm(prompt_tokens, 1, "smoke"), 1, given)
    said, worked = diagnosis(result.samples)
    click.echo(said)
    if not worked:
        raise SystemExit(1)


def diagnosis(samples: Sequence[Sample]) -> tuple[str, bool]:
    """For a person, of the two answers of a smoke test; and whether there was a hit."""
    failed = [sample for sample in samples if not sample.ok]
    if failed or len(samples) != 2:
        why = f"{failed[0].error} {failed[0].error_detail}" if failed else "no answer"
        return f"FAILED: {why}", False
    cold, warm = samples
    assert cold.ttft_s is not None
    assert warm.ttft_s is not None
    times = f"first token after {seconds(cold.ttft_s)}, the second time {seconds(warm.ttft_s)}"
    if warm.prompt_tokens is None:
        return f"UNKNOWN: the answers carry no usage; {times}.", False
    faster = warm.ttft_s < FASTER * cold.ttft_s
    if warm.cached_tokens:
        share = pct(warm.cached_tokens / warm.prompt_tokens)
        return f"HIT: {share} of the prompt came from cache; {times}.", True
    if faster:
        return (
            f"HIT, not reported: {times}. Start the engine with --enable-prompt-tokens-details.",
            True,
        )
    return f"MISS: {times}. {_KNOBS}", False


@click.command("cold-warm")
@click.option("--pairs", default=8, type=click.IntRange(1, 10_000), show_default=True)
@click.option("--users", default=1, type=click.IntRange(1), show_default=True)
@endpoint_options
def cold_warm_command(pairs: int, users: int, prompt_tokens: int, **given: Any) -> None:
    """Time prompts cold and then warm, from 1k tokens to --prompt-tokens."""
    table = _table("prompt tokens", "cold TTFT p50", "warm TTFT p50", "times faster", "warm hit")
    for tokens in doubling(min(1024, prompt_tokens), prompt_tokens):
        name = f"cold-warm-{tokens}"
        samples = _run(cold_warm(tokens, pairs, name), users, given).samples
        cold = _ttft_p50([sample for sample in samples if sample.turn == 0])
        warm_ones = [sample for sample in samples if sample.turn == 1]
        warm = _ttft_p50(warm_ones)
        times = f"{cold / warm:.1f}" if cold and warm else "–"
        hit = _hit(warm_ones, given["engine_block_size"])
        table.add_row(f"{tokens:,}", seconds(cold), seconds(warm), times, hit)
    Console().print(table)


@click.command("hit-rate")
@click.option("--users", default=4, type=click.IntRange(1), show_default=True)
@click.option("--turns", default=8, type=click.IntRange(1), show_default=True)
@endpoint_options
def hit_rate_command(users: int, turns: int, prompt_tokens: int, **given: Any) -> None:
    """TTFT against the share of each prompt that is cached, 0 to 100 %."""
    table = _table("cached share", "TTFT p50", "hit reported", "hit possible")
    for percent in (0, 25, 50, 75, 90, 100):
        traces = hit_rate(percent / 100, prompt_tokens, users, turns)
        further = [s for s in _run(traces, users, given).samples if s.turn]
        rates = hit_rates(further, given["engine_block_size"])
        told = (pct(rates["hit_rate_reported"]), pct(rates["hit_rate_bound"]))
        table.add_row(f"{percent} %", seconds(_ttft_p50(further)), *told)
    Console().print(table)


@click.command("working-set")
@click.option("--from", "least", default="64k", type=TOKENS, show_default=True)
@click.option("--to", "most", required=True, type=TOKENS, help="Tokens; more than the caches hold.")
@click.option("--rounds", default=4, type=click.IntRange(2), show_default=True)
@endpoint_options
def working_set_command(
    least: int, most: int, rounds: int, prompt_tokens: int, **given: Any
) -> None:
    """Hit rate and TTFT as more and more conversations take turns: the edges are the tiers."""
    table = _table("working set", "conversations", "TTFT p50", "hit reported")
    for tokens in doubling(least, most):
        traces = working_set(tokens, prompt_tokens, rounds)
        later = [s for s in _run(traces, len(traces), given).samples if s.turn]
        hit = _hit(later, given["engine_block_size"])
        table.add_row(f"{tokens:,}", f"{len(traces)}", seconds(_ttft_p50(later)), hit)
    Console().print(table)


def _run(traces: list[Trace], users: int, given: dict[str, Any]) -> RunResult:
    try:
        url = Endpoint(given["url"]).url
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    settings = RunSettings(
        url,
        users=users,
        timing=Timing(time_scale=given["time_scale"], start_spread_s=1.0),
        warm_prefix_pct=0.0,
        seed=given["seed"],
        engine_block_size=given["engine_block_size"],
    )
    try:
        result = uvloop.run(run_load(settings, traces))
    except EndpointError as error:
        raise click.ClickException(f"{url}: {error}") from error
    for warning in warnings(result):
        click.echo(warning, err=True)
    return result


def warnings(result: RunResult) -> Iterator[str]:
    """What a row of figures would not tell of itself."""
    failed = sum(not sample.ok for sample in result.samples)
    if failed:
        why = result.summary["last_error"]
        yield f"{failed} of {len(result.samples)} requests failed, the last: {why}"
    if not result.valid:
        client = result.summary["client"]
        assert isinstance(client, dict)
        yield f"INVALID: this client was late itself, p99 {seconds(client['lag_p99_s'])}"


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _ttft_p50(samples: Sequence[Sample]) -> float | None:
    return spread(s.ttft_s for s in samples if s.ok and s.ttft_s is not None)["p50"]


def _hit(samples: Sequence[Sample], block_size: int) -> str:
    return pct(hit_rates([s for s in samples if s.ok], block_size)["hit_rate_reported"])
