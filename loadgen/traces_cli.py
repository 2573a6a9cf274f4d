"""`kvproxy loadgen synth`, `inspect` and `pack`: make sets of traces, look at them, shrink them."""

from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from loadgen.cli_rows import row_format, row_options
from loadgen.traces.errors import TraceError
from loadgen.traces.inspect import QUANTILES, inspect_traces
from loadgen.traces.load import RowFormat, load_traces
from loadgen.traces.model import Trace
from loadgen.traces.packed import write_packed
from loadgen.traces.synth import write_traces

TRACES = click.Path(exists=True, path_type=Path)
# What to say where recordings are needed and none are named.
NO_TRACES = "No recordings at hand? `kvproxy loadgen synth --out traces` makes some."


@click.command()
@click.option("--conversations", default=60, type=click.IntRange(1, 100_000), show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False))
def synth(conversations: int, seed: int, out: Path) -> None:
    """Write synthetic traces drawn from published distributions."""
    with Console(stderr=True).status(f"writing {out}"):
        files = write_traces(conversations, seed, out)
    click.echo(f"{len(files)} traces in {out}")


@click.command()
@click.option("--traces", required=True, type=TRACES)
@row_options
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def inspect(traces: Path, as_json: bool, **rows: Any) -> None:
    """Print the sizes, times and sharing of a set of traces as quantiles."""
    figures = inspect_traces(load_or_explain(traces, None, row_format(**rows)))
    if as_json:
        click.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
        return
    quantiles, models = figures.pop("quantiles"), figures.pop("models")
    assert isinstance(quantiles, dict)
    assert isinstance(models, dict)
    table = Table()
    table.add_column("")
    for q in QUANTILES:
        table.add_column("max" if q == 1 else f"p{q * 100:g}", justify="right")
    for name, values in quantiles.items():
        table.add_row(name, *(_short(value) for value in values or ()))
    console = Console()
    counts = ", ".join(f"{_count(value)} {name}" for name, value in figures.items())
    console.print(counts.replace("_", " "), highlight=False)
    console.print("models: " + ", ".join(f"{name} {n}" for name, n in models.items()))
    console.print(table)


@click.command()
@click.option("--traces", required=True, type=TRACES)
@row_options
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False),
              help="A .jsonl file; --traces reads it like any other.")  # fmt: skip
def pack(traces: Path, out: Path, **rows: Any) -> None:
    """Write traces of any format as runs of block ids, about a hundredth of their size."""
    if not out.name.endswith(".jsonl"):
        raise click.UsageError("--out must end in .jsonl")
    count = write_packed(load_or_explain(traces, None, row_format(**rows)), out)
    click.echo(f"{count} traces, {out.stat().st_size} bytes in {out}")


def load_or_explain(
    path: Path, context_tokens_max: int | None, rows: RowFormat | None = None
) -> list[Trace]:
    # Seconds, where they are large; a file or a pipe is told nothing.
    with Console(stderr=True).status(f"reading {path}"):
        return loaded(path, context_tokens_max, rows)


def loaded(
    path: Path, context_tokens_max: int | None, rows: RowFormat | None = None
) -> list[Trace]:
    """Where something else already says what is going on."""
    try:
        return load_traces(path, context_tokens_max, rows)
    except TraceError as error:
        raise click.ClickException(str(error)) from error


def _count(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.1f}M"
    if value >= 1e4:
        return f"{value / 1e3:.1f}k"
    return f"{value:.3f}" if value < 1 else f"{value:.0f}"
