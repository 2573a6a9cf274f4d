import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadgen.arrivals import Arrivals
from loadgen.cli import loadgen
from loadgen.forecast import PERIODS, Fleet, forecast
from loadgen.run_values import RunSettings
from loadgen.schedule import Timing
from tests.support.traces import growing, weka_bytes

LENGTHS = [64, 128, 192]
TRACES = [growing(f"t{n}", LENGTHS) for n in range(4)]
SETTINGS = RunSettings("http://x", users=2, warm_prefix_pct=0.0)


def figures(settings: RunSettings = SETTINGS, fleet: Fleet | None = None) -> dict[str, object]:
    found = forecast(settings, TRACES, fleet or Fleet())["forecast"]
    assert isinstance(found, dict)
    return found


def test_totals_are_those_of_the_traces_and_periods_add_up_to_them() -> None:
    found = figures()
    assert (found["requests"], found["conversations"]) == (12, 4)
    assert found["prompt_tokens"] == 4 * sum(LENGTHS)
    assert found["uncached_tokens"] == 4 * LENGTHS[-1]  # each turn extends the one before
    assert found["output_tokens"] == 12 * 8
    assert found["hit_rate_bound"] == pytest.approx(1 - LENGTHS[-1] / sum(LENGTHS))
    assert found["hit_rate_pooled_lru"] is None
    parts = found["periods"]
    assert isinstance(parts, list)
    assert len(parts) == PERIODS
    for name in ("requests", "prompt_tokens", "uncached_tokens", "output_tokens"):
        assert sum(part[name] for part in parts) == found[name]
        assert all(part[f"{name}_per_s"] * part["lasts_s"] == pytest.approx(part[name])
                   for part in parts)  # fmt: skip
    assert all(a["t_s"] + a["lasts_s"] == pytest.approx(b["t_s"]) for a, b in pairwise(parts))
    # Nobody is left at the end, and two users never hold more than two whole conversations.
    assert parts[-1]["working_set_tokens"] == 0
    assert 0 < int(str(found["working_set_tokens_max"])) <= 2 * LENGTHS[-1]


def test_a_pool_too_small_hits_less_and_one_that_holds_all_reaches_the_bound() -> None:
    def pooled(replicas: int, hbm_tokens: int) -> float:
        together = replace(SETTINGS, users=4, timing=Timing(start_spread_s=0))
        found = figures(together, Fleet(replicas, hbm_tokens))
        return float(str(found["hit_rate_pooled_lru"]))

    assert pooled(1, 200) < pooled(4, 200) == figures()["hit_rate_bound"]
    with pytest.raises(ValueError, match="cannot hold a prompt of 192 tokens"):
        pooled(4, 191)


def test_duration_is_real_time_and_requests_end_it_early() -> None:
    timed = replace(SETTINGS, duration_s=5.0, timing=Timing(time_scale=4.0, start_spread_s=0))
    assert 5 < float(str(figures(timed)["duration_s"])) <= 20
    assert figures(replace(timed, requests=7))["requests"] == 7


def test_what_cannot_be_foreseen_is_refused() -> None:
    for settings, said in (
        (replace(SETTINGS, arrivals=Arrivals("constant")), "--arrivals"),
        (replace(SETTINGS, requests=5), "--requests without --duration"),
        (replace(SETTINGS, timing=Timing(advance=(0.0, 1.0))), "--advance"),
    ):
        with pytest.raises(ValueError, match=said):
            figures(settings)


def test_the_command_asks_nobody(tmp_path: Path, unused_tcp_port: int) -> None:
    (tmp_path / "x.json").write_bytes(weka_bytes())
    out = tmp_path / "f.json"
    url = f"http://127.0.0.1:{unused_tcp_port}"
    arguments = ["--traces", str(tmp_path / "x.json"), "--url", url, "--dry-run"]
    arguments += ["--hbm-tokens", "1M", "--json", str(out), "--output", str(tmp_path / "o")]
    done = CliRunner().invoke(loadgen, arguments)
    assert done.exit_code == 0, done.output
    assert "Forecast" in done.output
    record = json.loads(out.read_bytes())
    assert record["forecast"]["prompt_tokens"] == 330
    assert record["settings"]["users"] == 8
    assert json.loads((tmp_path / "o" / "forecast.json").read_bytes()) == record
    refused = CliRunner().invoke(loadgen, [*arguments, "--arrivals", "poisson"])
    assert refused.exit_code == 2
    assert "does not go with --arrivals" in refused.output


@pytest.mark.parametrize(
    "asked", [["--resume"], ["--fail-if", "ttft_p95_s>1"], ["--scrape", "http://r"]]
)
def test_what_only_a_run_can_do_is_refused(tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "x.json").write_bytes(weka_bytes())
    arguments = ["--traces", str(tmp_path / "x.json"), "--url", "http://x", "--dry-run", *asked]
    done = CliRunner().invoke(loadgen, arguments)
    assert done.exit_code == 2
    assert "--dry-run" in done.output
