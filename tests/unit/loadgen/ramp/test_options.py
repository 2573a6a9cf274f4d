import click
import pytest
from click.testing import CliRunner

from loadgen.ramp.certify import CertifyRule
from loadgen.ramp.classic import ClassicRule
from loadgen.ramp.options import ramp_of, ramp_options, slo_of
from loadgen.ramp.slo import Limit, Slo


def parsed(*arguments: str, users: int = 2) -> object:
    found: list[object] = []

    @click.command()
    @ramp_options
    def command(**given: object) -> None:
        try:
            found.append((slo_of(given), ramp_of(given, users)))
        except ValueError as error:
            raise click.UsageError(str(error)) from error

    done = CliRunner().invoke(command, arguments)
    return found[0] if done.exit_code == 0 else done.output


def test_nothing_asked() -> None:
    assert parsed() == (None, None)


def test_certify() -> None:
    slo = Slo((Limit("ttft_s", 2.0), Limit("ttft_s", 8.0, 16_000)))
    asked = parsed(
        "--ramp", "certify", "--slo", "ttft_s=2", "--slo", "ttft_s@16k=8", "--max-users", "9",
        "--hold", "1h", "--attainment", "0.9", "--max-new-tokens-per-period", "500k",
    )  # fmt: skip
    rule = CertifyRule(slo, 9, 2, 0.9, hold_s=3600.0, new_tokens_max=500_000)
    assert asked == (slo, rule)


def test_classic() -> None:
    asked = parsed(
        "--ramp", "classic", "--slo", "ttft_s=2", "--cooldown", "--ttft-metric", "p95",
        "--max-working-set", "1M", "--period", "10s", "--max-new-tokens-per-period", "200k",
    )  # fmt: skip
    rule = ClassicRule(2.0, 64, 2, 10.0, 3, "p95", 1_000_000, cooldown=True, new_tokens_max=200_000)
    assert asked == (Slo((Limit("ttft_s", 2.0),)), rule)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ramp", "certify"), "needs --slo"),
        (("--ramp", "classic", "--slo", "itl_s=1"), "needs --slo ttft_s"),
        (("--ramp", "certify", "--slo", "ttft_s=1", "--max-users", "1"), "more than --max-users"),
        (("--slo", "speed=1"), "is no limit"),
        (("--max-new-tokens-per-period", "1k"), "users that a --ramp adds"),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], said: str) -> None:
    assert said in str(parsed(*arguments))
