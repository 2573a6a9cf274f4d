from dataclasses import replace

import click
import pytest
from click.testing import CliRunner

from loadgen.emulator import EmulatorSettings
from loadgen.sample import Sample
from loadgen.workload_cli import (
    cold_warm_command,
    diagnosis,
    hit_rate_command,
    smoke,
    working_set_command,
)
from tests.support.emulated import emulated
from tests.support.samples import sample

ENGINE = EmulatorSettings(hbm_tokens=20_000, prefill_tok_s=10_000, time_scale=20.0)


def run(command: click.Command, url: str, *arguments: object) -> tuple[int, list[list[str]]]:
    """Exit status, and the cells of the rows printed."""
    given = ("--url", url, "--time-scale", 20, "--prompt-tokens", "4k", *arguments)
    done = CliRunner().invoke(command, [str(argument) for argument in given])
    rows = [line.strip("│").split("│") for line in done.output.splitlines() if "│" in line]
    return done.exit_code, [[cell.strip() for cell in row] for row in rows]


def test_smoke_tells_a_cache_from_none() -> None:
    with emulated(ENGINE) as url:
        done = CliRunner().invoke(smoke, ["--url", url, "--time-scale", "20"])
        assert done.exit_code == 0, done.output
        assert done.output.startswith("HIT: 9")
    with emulated(replace(ENGINE, prefix_caching=False)) as url:
        done = CliRunner().invoke(smoke, ["--url", url, "--time-scale", "20"])
        assert done.exit_code == 1
        assert "--enable-prefix-caching" in done.output


@pytest.mark.parametrize(
    ("answers", "said", "worked"),
    [
        ([sample(cached_tokens=0), sample()], "HIT: 80.0%", True),
        ([sample(), sample(cached_tokens=None, ttft_s=0.1)], "prompt-tokens-details", True),
        ([sample(), sample(cached_tokens=None)], "MISS", False),
        ([sample(), sample(prompt_tokens=None)], "no usage", False),
        ([sample(), sample(error="timeout")], "FAILED: timeout", False),
        ([sample()], "no answer", False),
    ],
)
def test_what_two_answers_mean(answers: list[Sample], said: str, worked: bool) -> None:
    text, found = diagnosis(answers)
    assert said in text
    assert found is worked


def test_cold_and_warm() -> None:
    with emulated(ENGINE) as url:
        status, rows = run(cold_warm_command, url, "--pairs", 2)
    assert status == 0
    assert [row[0] for row in rows] == ["1,024", "2,048", "4,000"]
    assert all(float(row[4].rstrip("%")) > 95 for row in rows)


def test_a_sweep_of_hit_rates() -> None:
    with emulated(ENGINE) as url:
        status, rows = run(hit_rate_command, url, "--users", 1, "--turns", 2)
    assert status == 0
    assert [row[0] for row in rows] == ["0 %", "25 %", "50 %", "75 %", "90 %", "100 %"]
    assert all(row[2] == row[3] for row in rows), (
        "one user and a large cache: all that can hit does"
    )


def test_a_working_set_beyond_the_cache_hits_nothing() -> None:
    with emulated(ENGINE) as url:
        status, rows = run(working_set_command, url, "--from", "8k", "--to", "40k", "--rounds", 3)
    assert status == 0
    assert [row[1] for row in rows] == ["2", "4", "8", "10"]
    assert float(rows[0][3].rstrip("%")) > 95
    assert float(rows[-1][3].rstrip("%")) < 10


def test_nobody_there(unused_tcp_port: int) -> None:
    done = CliRunner().invoke(smoke, ["--url", f"http://127.0.0.1:{unused_tcp_port}"])
    assert done.exit_code == 1
    assert CliRunner().invoke(smoke, ["--url", "nowhere"]).exit_code == 2


@pytest.mark.parametrize("words", [("--from", 0), ("--prompt-tokens", 0), ("--to", 0)])
def test_no_tokens_are_no_working_set(words: tuple[object, ...]) -> None:
    given = ("--url", "http://127.0.0.1:9", "--to", "1k", *words)
    done = CliRunner().invoke(working_set_command, [str(word) for word in given])
    assert done.exit_code == 2
    assert "at least one token" in done.output


def test_rows_of_failures_are_explained() -> None:
    with emulated(ENGINE) as url:
        given = ("--url", url, "--time-scale", "20", "--prompt-tokens", "40k", "--pairs", "1")
        done = CliRunner().invoke(cold_warm_command, given)
    assert "2 of 2 requests failed, the last: http_4xx" in done.output
    assert "maximum context length" in done.output
