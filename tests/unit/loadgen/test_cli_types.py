import click
import pytest
from click.testing import CliRunner

from loadgen.cli_types import COUNT, DURATION


@click.command()
@click.option("--tokens", type=COUNT, default="4k")
@click.option("--wait", type=DURATION, default=1.5)
def command(tokens: int, wait: float) -> None:
    click.echo(f"{tokens} {wait}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "4000 1.5\n"), (["--tokens", "1M", "--wait", "2m"], "1000000 120.0\n")],
)
def test_people_write_counts_and_durations_as_they_like(arguments: list[str], said: str) -> None:
    assert CliRunner().invoke(command, arguments).output == said


@pytest.mark.parametrize("arguments", [["--tokens", "many"], ["--wait", "soon"]])
def test_what_cannot_be_read_is_a_usage_error(arguments: list[str]) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert arguments[1] in result.output
