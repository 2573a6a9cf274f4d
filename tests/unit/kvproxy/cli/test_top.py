import asyncio
import io
import re
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from kvproxy.cli.top import top, view
from tests.support.traffic import busy_proxy


async def test_one_view() -> None:
    async with busy_proxy() as running:
        arguments = ["--url", running.url, "--once"]
        shown = await asyncio.to_thread(CliRunner().invoke, top, arguments)
    assert shown.exit_code == 0, shown.output
    assert "hit rate" in shown.output
    assert shown.output.count("ready") == 3
    assert "latest decisions" in shown.output


def test_nobody_there() -> None:
    shown = CliRunner().invoke(top, ["--url", "http://127.0.0.1:1", "--once"])
    assert shown.exit_code == 1
    assert "does not answer" in shown.output
    unset = CliRunner().invoke(top, ["--api-key-env", "NO_SUCH_VARIABLE"])
    assert unset.exit_code == 2


def test_an_idle_proxy_fits_a_small_window() -> None:
    replica = _replica("r", health="ejected") | {"hbm_tokens": 0, "dram_tokens": 0}
    assert "ejected" in _drawn(_state([replica], decisions=0))


def test_names_stay_apart_in_a_small_window() -> None:
    ids = [f"vllm-{n}.vllm.inference.svc.cluster.local:8000" for n in range(3)]
    drawn = _drawn(_state([_replica(name) for name in ids]))
    for n in range(3):
        # Once where it is described, and where it was chosen.
        assert len(re.findall(rf"^vllm-{n} ", drawn, re.MULTILINE)) >= 2, drawn
    assert "held back 0" in drawn, drawn


@pytest.mark.parametrize("replicas", [0, 1, 8, 12, 200])
def test_it_never_needs_more_than_the_window(replicas: int) -> None:
    ids = [f"10.0.{n // 100}.{n % 100}:8000" for n in range(replicas)]
    rows = [_replica(name) for name in ids]
    if rows:
        rows[-1]["health"] = "ejected"
    lines = _drawn(_state(rows)).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert sum("ejected" in line for line in lines) == bool(rows)
    left = re.search(r"and (\d+) more, (\d+) of them ready", "\n".join(lines))
    listed = sum("████" in line for line in lines)
    assert listed + (int(left[1]) if left else 0) == replicas
    assert bool(left) == (replicas == 200)
    # Decisions are still seen.
    assert sum("queue 0.250" in line for line in lines) >= 3


def _drawn(state: dict[str, Any]) -> str:
    console = Console(width=80, height=24, record=True, file=io.StringIO())
    console.print(view(state, 80, 24))
    return console.export_text()


def test_an_outage_stands_in_place_of_advice() -> None:
    state = _state([_replica("r0", "starting")]) | {"outage": "None of 1 replicas takes work."}
    shown = _drawn(state)
    assert "None of 1 replicas takes work." in shown
    assert "HBM holds" not in shown
    assert "HBM holds" in _drawn(state | {"outage": ""})


def _replica(name: str, health: str = "ready") -> dict[str, Any]:
    return {"id": name, "health": health, "held_tokens": 380_000, "hbm_tokens": 400_000,
            "queue_s": 12.5, "in_flight": 12, "sessions": 300, "dram_held_tokens": 9_000_000,
            "dram_tokens": 40_000_000, "evicted_tokens": 1_200}  # fmt: skip


def _state(replicas: list[dict[str, Any]], decisions: int = 60) -> dict[str, Any]:
    totals = dict.fromkeys(("requests", "failed", "prompt_tokens", "reported_tokens",
                            "predicted_tokens"), 123_456)  # fmt: skip
    ids = [row["id"] for row in replicas] or ["gone"]
    chosen = [
        {"replica": ids[n % len(ids)], "prompt_tokens": 45_678, "predicted_cached_tokens": 45_000,
         "cached_tokens": 44_992, "ttft_s": 0.25, "terms": {"queue_s": 0.25, "prefill_s": 1.0,
         "move_s": 0.5}}
        for n in range(decisions)
    ]  # fmt: skip
    advice = "HBM holds the live conversations, and a DRAM tier would not make turns faster now."
    return {"policy": "seconds", "totals": totals, "queue_length": 0, "session_count": 0,
            "ttft": {"p50_s": None, "p95_s": None}, "replicas": replicas, "decisions": chosen,
            "regime": {"regime": "hbm_enough", "advice": advice}}  # fmt: skip
