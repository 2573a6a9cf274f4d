"""What a person sees: a live line while a run goes on, and its summary as a table."""

import asyncio
import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadgen.run_values import Progress
from loadgen.stats import hit_rates, quantile

REFRESH_S = 0.5
RECENT = 200


def pct(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, float | int) else "–"


def seconds(value: object) -> str:
    """A latency with the digits that matter: 12 ms, 0.51 s, 73 s."""
    if not isinstance(value, float | int):
        return "–"
    if value < 0.1:
        return f"{value * 1e3:.1f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def live_text(progress: Progress, goal: str, engine_block_size: int) -> Text:
    """One line about a run under way; latency and hit rate of the last requests."""
    recent = progress.samples[-RECENT:]
    good = [sample for sample in recent if sample.ok]
    ttft = sorted(sample.ttft_s for sample in good if sample.ttft_s is not None)
    rates = hit_rates(good, engine_block_size)
    parts = [
        f"{time.monotonic() - progress.started:.0f} s",
        f"{len(progress.samples)}{goal} requests",
        f"{progress.users} users",
        f"{progress.in_flight} in flight",
        f"{progress.failed} failed",
    ]
    if ttft:
        parts.append(f"ttft p50 {seconds(quantile(ttft, 0.5))} p95 {seconds(quantile(ttft, 0.95))}")
    if rates["hit_rate_reported"] is not None:
        parts.append(
            f"hit {pct(rates['hit_rate_reported'])} of {pct(rates['hit_rate_bound'])} possible"
        )
    return Text(" · ".join(parts), style="cyan", overflow="ellipsis", no_wrap=True)


async def show_progress(
    console: Console, progress: Progress, label: str, goal: str, engine_block_size: int
) -> None:
    """Until cancelled: a line that refreshes on a terminal, otherwise one every 10 s."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(10)
            console.print(f"{label}{live_text(progress, goal, engine_block_size)}", soft_wrap=True)
    # No thread of its own: it would take turns with the loop that is being measured.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            line = live_text(progress, goal, engine_block_size)
            live.update(Group(Text(label) + line), refresh=True)
            await asyncio.sleep(REFRESH_S)


def summary_table(summary: Mapping[str, object]) -> Table:
    table = Table(title="Load run", show_header=False, title_justify="left")
    table.add_column("figure", style="bold")
    table.add_column("value")
    table.add_row("requests", _requests(summary))
    if isinstance(said := summary["last_error"], str):
        table.add_row("last failure", Text(said))
    for name in ("ttft", "itl", "e2e"):
        table.add_row(name, _quantiles(summary, name))
    if (silent := _silent(summary["silent"])) is not None:
        table.add_row("silent", silent)
    if isinstance(slo := summary.get("slo"), dict):
        table.add_row("SLO", _slo(slo))
    table.add_row("hit rate", _hit_rates(summary))
    table.add_row("prompt fidelity", _fidelity(summary["fidelity"]))
    table.add_row("answer length", _answers(summary["answers"]))
    table.add_row(
        "client lag",
        f"send {_lag(summary['client_lag_s'])}, event loop {_lag(summary['loop_lag_s'])}",
    )
    table.add_row("client", _client(summary["client"]))
    for replica, row in _rows(summary["replicas"]):
        table.add_row(f"replica {replica}", row)
    return table


_LATENCY = ("mean", "p50", "p95", "p99")
# With fewer values than this a quantile is but the largest of them, or next to it.
_QUANTILES_NEED = {"p95": 20, "p99": 100}


def _quantiles(summary: Mapping[str, object], name: str) -> str:
    figures = [f"{key} {seconds(summary[f'{name}_{key}_s'])}" for key in _LATENCY]
    count = summary[f"{name}_count"]
    assert isinstance(count, int)
    few = [key for key, least in _QUANTILES_NEED.items() if 0 < count < least]
    return "  ".join(figures) + f"  of {count}" + (f", few for {' and '.join(few)}" if few else "")


def _silent(silent: object) -> str | None:
    if not isinstance(silent, Mapping) or not silent["beyond_p95"]:
        return None
    return (
        f"[bold red]{silent['beyond_p95']}[/bold red] requests waited longer than p95 for a first "
        f"token that never came, up to {seconds(silent['max_s'])}: no quantile has them"
    )


def _requests(summary: Mapping[str, object]) -> str:
    text = f"{summary['requests']} ended, {summary['ok']} ok, {summary['conversations']} sessions"
    errors = summary["errors"]
    if isinstance(errors, dict) and errors:
        listed = ", ".join(f"{count} {name}" for name, count in errors.items())
        text += f", [red]{listed} ({pct(summary['error_rate'])})[/red]"
    for name in ("cancelled", "aborted", "retries"):
        if summary[name]:
            text += f", {summary[name]} {name}"
    if isinstance(warm_up := summary.get("warm_up"), Mapping):
        text += f"; {warm_up['requests']} of the first {seconds(warm_up['s'])} left out"
    return text


def ramp_text(ramp: Mapping[str, object]) -> str:
    """What a ramp found, for a person."""
    users, failed = ramp["users"], ramp.get("not_users")
    if ramp["kind"] == "classic":
        return f"{users} users when the run ended"
    if users is None:
        return "the run ended before a number of users was certified"
    if not users:
        return "not even one user is served in time"
    beyond = f"; {failed} are too many" if failed is not None else ", the most it was to try"
    interval = f"{pct(ramp['attainment_low'])} to {pct(ramp['attainment_high'])}"
    held = f"{seconds(ramp['held_s'])}: {pct(ramp['attainment'])} in time"
    return f"{users} users certified{beyond}. Held {held} (95 % interval {interval})"


def _slo(slo: Mapping[str, object]) -> str:
    limits = slo["limits"]
    assert isinstance(limits, list)
    goodput = slo["goodput_per_s"]
    text = f"{', '.join(limits)}: {pct(slo['attainment'])} in time"
    return text + (f", goodput {goodput:.2f}/s" if isinstance(goodput, float) else "")


def _hit_rates(summary: Mapping[str, object]) -> str:
    text = (
        f"predicted {pct(summary['hit_rate_predicted'])}  "
        f"reported {pct(summary['hit_rate_reported'])}  "
        f"bound {pct(summary['hit_rate_bound'])}"
    )
    if summary["predicted_within_block"] is not None:
        text += f"  (prediction within a block: {pct(summary['predicted_within_block'])})"
    if summary["hit_rate_beyond_bound"]:
        text += "  [bold red]more than possible[/bold red]: engines had this text from before"
    return text


def _fidelity(fidelity: object) -> str:
    if not isinstance(fidelity, dict) or fidelity["exact"] is None:
        return "unknown: the endpoint reports no usage"
    return (
        f"{pct(fidelity['exact'])} of prompts exactly as long as the trace; "
        f"off by p99 {fidelity['off_p99']:.0f}, at most {fidelity['off_max']} tokens"
    )


def _answers(answers: object) -> str:
    if not isinstance(answers, Mapping) or answers["exact"] is None:
        return "unknown: the endpoint reports no usage"
    return f"{pct(answers['exact'])} exactly as asked; {pct(answers['tokens'])} of the tokens"


def _client(client: object) -> str:
    if not isinstance(client, dict):
        return "–"
    text = f"{pct(client['cpu'])} of a core"
    if client["cpu_wait"] is not None:
        text += f", kept from one {pct(client['cpu_wait'])} of the time"
    if client["valid"]:
        return text
    return (
        f"[bold red]INVALID[/bold red]: own delay p99 {seconds(client['lag_p99_s'])}, "
        f"allowed {seconds(client['lag_allowed_s'])}; {text}"
    )


def _lag(lag: object) -> str:
    if not isinstance(lag, dict):
        return "–"
    return f"p50 {seconds(lag['p50'])} p99 {seconds(lag['p99'])} max {seconds(lag['max'])}"


def _rows(replicas: object) -> list[tuple[str, str]]:
    if not isinstance(replicas, dict):
        return []
    return [(name, _row(row)) for name, row in replicas.items()]


def _row(row: Mapping[str, int | None]) -> str:
    prompt, cached = row["prompt_tokens"] or 0, row["cached_tokens"]
    text = f"{row['requests']} requests, {prompt / 1e3:.0f}k prompt tokens"
    return text + ("" if cached is None else f", {cached / 1e3:.0f}k cached")
