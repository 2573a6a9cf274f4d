"""`kvproxy top`: the live view in a terminal."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from textwrap import wrap
from typing import Any, Literal

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kvproxy.cli import admin_key
from kvproxy.cli.short_names import short_names
from kvproxy.core.units import short_count

_TIMEOUT_S = 5.0
_DECISIONS_MIN = 3
# From so many columns on there is room for figures beside the bars.
_WIDE = 110
_NAME, _SHORT_NAME = 32, 18
_COLUMNS = ("replica", "state", "HBM", "DRAM", "in flight", "sessions", "owed", "evicted")
_NARROW_COLUMNS = ("replica", "state", "HBM", "DRAM", "runs", "sessions", "owed", "evicted")
_HEALTH = {"ready": "green", "ejected": "red", "gone": "red"}
_REGIME = {"hbm_enough": "green", "watch_evictions": "yellow", "dram_pays": "yellow"}
State = dict[str, Any]


@click.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The proxy.")
@admin_key.api_key_env
@click.option("--interval", default=2.0, show_default=True, type=click.FloatRange(min=0.2))
@click.option("--once", is_flag=True, help="Print one view and end.")
def top(*, url: str, api_key_env: str | None, interval: float, once: bool) -> None:
    """Show replicas, hit rate and the latest decisions of a running proxy. Ctrl-C ends it."""
    target = f"{url.rstrip('/')}/admin/live"
    try:
        request = urllib.request.Request(target, headers=admin_key.headers(api_key_env))
    except ValueError as error:
        raise click.UsageError(f"--url: {error}; such as http://127.0.0.1:8080") from error
    console = Console()
    if once:
        # Nothing has to fit a window.
        console.print(view(_ask(request), console.width, 1000))
        return
    try:
        with Live(_shown(request, console), console=console, screen=True) as live:
            while True:
                time.sleep(interval)
                live.update(_again(request, console))
    except KeyboardInterrupt:
        return


def _shown(request: urllib.request.Request, console: Console) -> Group:
    return view(_ask(request), console.width, console.height)


def _again(request: urllib.request.Request, console: Console) -> Group:
    """A proxy that is restarted comes back; until then it says so."""
    try:
        return _shown(request, console)
    except click.ClickException as error:
        return Group(Text(error.message, style="red"))


def _ask(request: urllib.request.Request) -> State:
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            state: State = json.load(answer)
            return state
    except urllib.error.HTTPError as error:
        hint = "; give --api-key-env" if error.code in (401, 403) else ""
        raise click.ClickException(f"{request.full_url} answered {error.code}{hint}") from error
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise click.ClickException(
            f"{request.full_url} does not answer: {why}. --url names the proxy, or where its "
            "admin.listen is"
        ) from error


def view(state: State, width: int, height: int) -> Group:
    """All of it in so many columns and lines, with as many replicas and decisions as there is room
    for: where not all replicas fit, those that are not ready and then the busiest are shown."""
    regime = state["regime"]
    head = _head(state, width)
    advice = Text(regime["advice"], style=_REGIME.get(regime["regime"], "red"))
    if state.get("outage"):
        advice = Text(state["outage"], style="bold red")
    above = len(head.plain.splitlines()) + len(wrap(advice.plain, width))
    # Beside the rows: the heads of both tables and the title of one.
    rows = height - above - 3
    shown, rest = _that_fit(state["replicas"], rows - _DECISIONS_MIN)
    decisions = state["decisions"][: max(_DECISIONS_MIN, rows - len(shown) - bool(rest))]
    wide = width >= _WIDE
    names = short_names([row["id"] for row in state["replicas"]], _NAME if wide else _SHORT_NAME)
    parts: list[RenderableType] = [head, advice, _replicas(shown, names, wide=wide)]
    if rest:
        ready = sum(row.get("health") == "ready" for row in rest)
        parts.append(Text(f"and {len(rest)} more, {ready} of them ready", style="dim"))
    return Group(*parts, _decisions(decisions, names))


def _that_fit(replicas: list[State], lines: int) -> tuple[list[State], list[State]]:
    """The replicas to show, and those that only a last line tells of."""
    if len(replicas) <= max(lines, 2):
        return replicas, []
    ranked = sorted(replicas, key=_rank)
    return ranked[: max(1, lines - 1)], ranked[max(1, lines - 1) :]


def _rank(replica: State) -> tuple[bool, int]:
    return replica.get("health") == "ready", -int(replica.get("in_flight", 0))


def _head(state: State, width: int) -> Text:
    """A name and its figure stay on one line."""
    totals, ttft = state["totals"], state["ttft"]
    head = Text.assemble(("kvproxy ", "bold"), (f"{state['policy']}  ", "dim"))
    used = len(head)
    for name, value in (
        ("hit rate", _share(totals["reported_tokens"], totals["prompt_tokens"])),
        ("predicted", _share(totals["predicted_tokens"], totals["prompt_tokens"])),
        ("ttft p50", _seconds(ttft["p50_s"])),
        ("p95", _seconds(ttft["p95_s"])),
        ("held back", str(state["queue_length"])),
        ("conversations", str(state["session_count"])),
        ("requests", short_count(totals["requests"])),
        ("failed", short_count(totals["failed"])),
        ("refused", short_count(totals.get("refused", 0))),
    ):
        long = len(name) + len(value) + 3
        if used + long > width + 2:
            head.append("\n")
            used = 0
        used += long
        head.append(f"{name} ", "dim")
        head.append(f"{value}  ", "bold")
    return head


def _replicas(replicas: list[State], names: Mapping[str, str], *, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    for name in _COLUMNS if wide else _NARROW_COLUMNS:
        left = name in ("replica", "state", "HBM", "DRAM")
        width = 9 if name == "state" else None
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(name, justify=justify, no_wrap=True, min_width=width)
    bar = _bar if wide else _narrow_bar
    for row in replicas:
        health = str(row.get("health", "?"))
        table.add_row(
            names[row["id"]],
            Text(health, style=_HEALTH.get(health, "yellow")),
            bar(row["held_tokens"], row["hbm_tokens"]),
            bar(row["dram_held_tokens"], row["dram_tokens"]),
            str(row.get("in_flight", 0)),
            str(row.get("sessions", 0)),
            _seconds(row["queue_s"]),
            short_count(row["evicted_tokens"]),
        )
    return table


def _decisions(decisions: list[State], names: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, title="latest decisions")
    table.title_style = "dim"
    for name in ("replica", "prompt", "predicted", "reported", "first token", "terms"):
        # What is cut where there is no room is the end of the sum, never who was chosen.
        table.add_column(name, no_wrap=True, ratio=1 if name == "terms" else None)
    for row in decisions:
        terms = {k.removesuffix("_s"): v for k, v in row["terms"].items() if abs(v) >= 0.0005}
        told = row["cached_tokens"]
        gone = short_names([row["replica"]], _SHORT_NAME)
        table.add_row(
            names.get(row["replica"]) or gone[row["replica"]],
            short_count(row["prompt_tokens"]),
            short_count(row["predicted_cached_tokens"]),
            "–" if told is None else short_count(told),
            _seconds(row["ttft_s"]),
            " + ".join(f"{name} {value:.3f}" for name, value in terms.items()) or "0",
        )
    return table


def _bar(held: int, of: int) -> Text:
    bar = _cells(held, of, 8)
    return bar.append(f" {short_count(held)}/{short_count(of)}") if of else bar


def _narrow_bar(held: int, of: int) -> Text:
    bar = _cells(held, of, 4)
    return bar.append(f" {held / of:.0%}") if of else bar


def _cells(held: int, of: int, cells: int) -> Text:
    if not of:
        return Text("–", style="dim")
    full = round(cells * min(1.0, held / of))
    return Text.assemble(("█" * full, "cyan"), ("░" * (cells - full), "dim"))


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"
