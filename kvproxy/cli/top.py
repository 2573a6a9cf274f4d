"""`kvproxy top`: the live view in a terminal."""

import json
import os
import time
import urllib.error
import urllib.request
from typing import Any, Literal

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kvproxy.core.units import short_count

_TIMEOUT_S = 5.0
_BAR = 8
_HEALTH = {"ready": "green", "ejected": "red", "gone": "red"}
_REGIME = {"hbm_enough": "green", "watch_evictions": "yellow", "dram_pays": "yellow"}
State = dict[str, Any]


@click.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The proxy.")
@click.option("--api-key-env", metavar="NAME", help="Variable with an admin key.")
@click.option("--interval", default=2.0, show_default=True, type=click.FloatRange(min=0.2))
@click.option("--once", is_flag=True, help="Print one view and end.")
def top(*, url: str, api_key_env: str | None, interval: float, once: bool) -> None:
    """Show replicas, hit rate and the latest decisions of a running proxy. Ctrl-C ends it."""
    request = urllib.request.Request(f"{url.rstrip('/')}/admin/live")
    if api_key_env:
        request.add_header("authorization", f"Bearer {_key(api_key_env)}")
    console = Console()
    if once:
        console.print(view(_ask(request), console.height))
        return
    try:
        with Live(view(_ask(request), console.height), console=console, screen=True) as live:
            while True:
                time.sleep(interval)
                live.update(_again(request, console.height))
    except KeyboardInterrupt:
        return


def _key(variable: str) -> str:
    key = os.environ.get(variable)
    if not key:
        raise click.UsageError(f"--api-key-env: the variable {variable} is not set")
    return key


def _again(request: urllib.request.Request, height: int) -> Group:
    """A proxy that is restarted comes back; until then it says so."""
    try:
        return view(_ask(request), height)
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
        raise click.ClickException(f"{request.full_url} does not answer: {error}") from error


def view(state: State, height: int) -> Group:
    """All of it, with as many decisions as `height` lines leave room for."""
    replicas = state["replicas"]
    room = max(3, height - len(replicas) - 12)
    regime = state["regime"]
    advice = Text(regime["advice"], style=_REGIME.get(regime["regime"], "red"))
    return Group(_head(state), advice, _replicas(replicas), _decisions(state["decisions"][:room]))


def _head(state: State) -> Text:
    totals, ttft = state["totals"], state["ttft"]
    head = Text.assemble(("kvproxy ", "bold"), (f"{state['policy']}  ", "dim"))
    for name, value in (
        ("hit rate", _share(totals["reported_tokens"], totals["prompt_tokens"])),
        ("predicted", _share(totals["predicted_tokens"], totals["prompt_tokens"])),
        ("ttft p50", _seconds(ttft["p50_s"])),
        ("p95", _seconds(ttft["p95_s"])),
        ("held back", str(state["queue_length"])),
        ("conversations", str(state["session_count"])),
        ("requests", short_count(totals["requests"])),
        ("failed", short_count(totals["failed"])),
    ):
        head.append(f"{name} ", "dim")
        head.append(f"{value}  ", "bold")
    return head


def _replicas(replicas: list[State]) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    for name in ("replica", "state", "HBM", "DRAM", "in flight", "sessions", "owed", "evicted"):
        left = name in ("replica", "state", "HBM", "DRAM")
        width = 9 if name == "state" else None
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(name, justify=justify, no_wrap=True, min_width=width)
    for row in replicas:
        health = str(row.get("health", "?"))
        table.add_row(
            row["id"],
            Text(health, style=_HEALTH.get(health, "yellow")),
            _bar(row["held_tokens"], row["hbm_tokens"]),
            _bar(row["dram_held_tokens"], row["dram_tokens"]),
            str(row.get("in_flight", 0)),
            str(row.get("sessions", 0)),
            _seconds(row["queue_s"]),
            short_count(row["evicted_tokens"]),
        )
    return table


def _decisions(decisions: list[State]) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, title="latest decisions")
    table.title_style = "dim"
    for name in ("replica", "prompt", "predicted", "reported", "first token", "terms"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for row in decisions:
        terms = {k.removesuffix("_s"): v for k, v in row["terms"].items() if abs(v) >= 0.0005}
        told = row["cached_tokens"]
        table.add_row(
            row["replica"],
            short_count(row["prompt_tokens"]),
            short_count(row["predicted_cached_tokens"]),
            "–" if told is None else short_count(told),
            _seconds(row["ttft_s"]),
            " + ".join(f"{name} {value:.3f}" for name, value in terms.items()) or "0",
        )
    return table


def _bar(held: int, of: int) -> Text:
    if not of:
        return Text("–", style="dim")
    full = round(_BAR * min(1.0, held / of))
    return Text.assemble(
        ("█" * full, "cyan"),
        ("░" * (_BAR - full), "dim"),
        f" {short_count(held)}/{short_count(of)}",
    )


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"
