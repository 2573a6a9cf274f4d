import asyncio

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
    replica = {"id": "r", "health": "ejected", "held_tokens": 0, "hbm_tokens": 0, "queue_s": 0.0,
               "dram_held_tokens": 0, "dram_tokens": 0, "evicted_tokens": 0}  # fmt: skip
    totals = dict.fromkeys(("requests", "failed", "prompt_tokens", "reported_tokens",
                            "predicted_tokens"), 0)  # fmt: skip
    state = {"policy": "seconds", "totals": totals, "queue_length": 0, "session_count": 0,
             "ttft": {"p50_s": None, "p95_s": None}, "replicas": [replica], "decisions": [],
             "regime": {"regime": "hbm_enough", "advice": "HBM is enough."}}  # fmt: skip
    console = Console(width=80, record=True)
    console.print(view(state, 24))
    assert "ejected" in console.export_text()
