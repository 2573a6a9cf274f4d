"""Option types of the command line: human counts and durations, and what files of rows need."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import click

from kvproxy.core.units import parse_count, parse_duration
from loadgen.traces.load import RowFormat
from loadgen.traces.rows import Labels

T = TypeVar("T", int, float)


class Human(click.ParamType[T], Generic[T]):
    """Text as people write it, e.g. 128k or 10m; an error says what is accepted."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse: Callable[[str], T] = parse

    def convert(
        self, value: str | T, param: click.Parameter | None, ctx: click.Context | None
    ) -> T:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


COUNT = Human("count", parse_count)
DURATION = Human("duration", parse_duration)


def row_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --row-labels and --row-block-size; `row_format` makes a RowFormat of them."""
    for option in (
        click.option(
            "--row-block-size",
            type=click.IntRange(1, 65536),
            help="Tokens of a block in files of one request a line; default: what fits the rows.",
        ),
        click.option(
            "--row-labels",
            nargs=4,
            default=tuple(Labels()),
            show_default=True,
            help="Names of the four fields in such files.",
        ),
    ):
        command = option(command)
    return command


def row_format(row_labels: tuple[str, str, str, str], row_block_size: int | None) -> RowFormat:
    return RowFormat(Labels(*row_labels), row_block_size)
