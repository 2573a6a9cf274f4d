import click
import pytest
from click.testing import CliRunner, Result

from kvproxy.cli.lazy import Lazy, LazyGroup

GROUP = LazyGroup(
    "tool",
    lazy={
        "version": Lazy("kvproxy.cli.version:version", "Show versions."),
        "broken": Lazy("kvproxy.no_such_module:x", "Cannot be imported."),
    },
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(GROUP, arguments)


def test_help_imports_nothing() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "Show versions." in result.output
    assert "Cannot be imported." in result.output


def test_a_command_is_imported_on_use() -> None:
    assert run("version").output.startswith("kvproxy ")
    assert isinstance(run("broken").exception, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("typed", "hint"), [("verison", "did you mean version?"), ("zzz", "known: version, broken")]
)
def test_unknown_commands_get_a_hint(typed: str, hint: str) -> None:
    result = run(typed)
    assert result.exit_code == 2
    assert f"no command {typed!r}; {hint}" in result.output


def test_what_is_no_command_is_a_bug() -> None:
    group = LazyGroup("tool", lazy={"x": Lazy("kvproxy.cli.lazy:Lazy", "")})
    with pytest.raises(AssertionError, match="x is no command"):
        group.get_command(click.Context(group), "x")
