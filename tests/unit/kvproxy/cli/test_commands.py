import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from kvproxy.cli.commands import COMMANDS, main


def test_help_lists_every_command_and_completion() -> None:
    result = CliRunner().invoke(main, ["-h"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.output
    assert "_KVPROXY_COMPLETE=bash_source" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_imported_and_has_help(name: str) -> None:
    assert isinstance(main.get_command(click.Context(main), name), click.Command)
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_help_stays_fast_by_importing_little() -> None:
    code = "import sys, kvproxy.cli; print(*{m.partition('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"aiohttp", "asyncio", "pydantic", "yaml", "msgspec", "rich", "uvloop", "zmq"}
    assert heavy & set(run.stdout.split()) == set()


def test_module_is_the_script() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "kvproxy", "version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("kvproxy ")
