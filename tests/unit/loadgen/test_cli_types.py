import click
import pytest

from loadgen.cli_types import COUNT, DURATION


def test_people_write_numbers_with_units() -> None:
    assert COUNT.convert("128k", None, None) == 128_000
    assert DURATION.convert("10m", None, None) == 600.0


def test_numbers_pass() -> None:
    assert COUNT.convert(7, None, None) == 7


def test_an_error_says_what_is_accepted() -> None:
    with pytest.raises(click.BadParameter, match="many"):
        COUNT.convert("many", None, None)
