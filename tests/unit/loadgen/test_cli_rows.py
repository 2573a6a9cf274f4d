import click
from click.testing import CliRunner

from loadgen.cli_rows import row_format, row_options
from loadgen.traces.load import RowFormat
from loadgen.traces.rows import Labels


def chosen(*arguments: str) -> RowFormat:
    found = []

    @click.command()
    @row_options
    def command(row_labels: tuple[str, str, str, str], row_block_size: int | None) -> None:
        found.append(row_format(row_labels, row_block_size))

    assert CliRunner().invoke(command, arguments).exit_code == 0
    return found[0]


def test_the_default_is_what_such_files_mostly_say() -> None:
    assert chosen() == RowFormat(Labels(), None)


def test_names_and_block_size_can_be_given() -> None:
    given = chosen("--row-labels", "a", "b", "c", "d", "--row-block-size", "512")
    assert given == RowFormat(Labels("a", "b", "c", "d"), 512)
