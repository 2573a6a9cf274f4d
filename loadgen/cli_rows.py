"""Options that say what the fields of a file of one request a line are called."""

from collections.abc import Callable
from typing import Any

import click

from loadgen.traces.load import RowFormat
from loadgen.traces.rows import Labels


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
