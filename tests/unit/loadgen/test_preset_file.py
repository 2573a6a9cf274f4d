import json
from dataclasses import asdict
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kvproxy.core.tier_costs import TierCosts
from loadgen.preset_file import costs_of, preset_file

COSTS = TierCosts(40_000.0, 1e-9, 0.002, 0.004, 5e-5, 3e-8, 380_000.0, 131_072, 880_000, 0.02)


@click.command()
@click.option("--prefill-tok-s", default=1.0)
@click.option("--hbm-tokens", default=1)
@preset_file
@click.pass_context
def show(ctx: click.Context, prefill_tok_s: float, hbm_tokens: int) -> None:
    click.echo(f"{prefill_tok_s} {hbm_tokens} {costs_of(ctx) == COSTS}")


def test_measured_values_stand_in_for_what_is_not_given(tmp_path: Path) -> None:
    file = tmp_path / "preset.txt"
    file.write_text(json.dumps({"costs": asdict(COSTS)}))
    runner = CliRunner()
    assert runner.invoke(show, []).output == "1.0 1 False\n"
    words = ["--preset-file", str(file)]
    assert runner.invoke(show, words).output == "40000.0 880000 True\n"
    given = runner.invoke(show, ["--hbm-tokens", "7", *words])
    assert given.output == "40000.0 7 True\n"


@pytest.mark.parametrize("text", ["{", "{}", '{"costs": {"prefill_tok_s": "fast"}}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "preset.txt"
    file.write_text(text)
    result = CliRunner().invoke(show, ["--preset-file", str(file)])
    assert result.exit_code == 2
    assert "preset.txt" in result.output
