import click
import pytest
from click.testing import CliRunner

from loadgen.chaos import Command, Faults
from loadgen.cli_load import load_of, load_options
from loadgen.limits import Limits
from loadgen.run_values import Breaker


def read(*arguments: str) -> dict[str, object]:
    found: dict[str, object] = {}

    @click.command()
    @load_options
    def command(**given: object) -> None:
        found.update(load_of(given))

    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return found


def test_nothing_is_limited_or_troubled_unless_asked_for() -> None:
    assert read() == {
        "workers": 1, "faults": Faults(), "commands": (), "limits": Limits(), "breaker": Breaker(),
    }  # fmt: skip


def test_what_is_asked_for() -> None:
    found = read(
        "--at", "30s", "kill 1", "--at", "2m", "true", "--aborts", "0.1", "--slow-readers", "0.2",
        "--slow-bytes-per-s", "1k", "--max-in-flight", "9", "--input-tokens-per-min", "2M",
        "--max-failures", "10", "--failure-window", "30s",
    )  # fmt: skip
    assert found["commands"] == (Command(30.0, "kill 1"), Command(120.0, "true"))
    assert found["faults"] == Faults(0.1, 0.2, 1000.0)
    assert found["limits"] == Limits(in_flight=9, input_tokens_per_min=2_000_000)
    assert found["breaker"] == Breaker(10, 30.0)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--aborts", "0.6", "--slow-readers", "0.6"), "more than all"),
        (("--workers", "2", "--max-prefills", "3"), "one process"),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(*arguments)
