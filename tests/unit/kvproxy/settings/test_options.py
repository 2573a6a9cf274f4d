import click
import pytest
from click.testing import CliRunner

from kvproxy.settings.options import FLAG_LEAVES, SettingsCommand, flags_of, settings_options


def run(*arguments: str) -> tuple[int, str, dict[tuple[str, ...], tuple[str, object]]]:
    given: dict[tuple[str, ...], tuple[str, object]] = {}

    @click.command(cls=SettingsCommand, params=[*settings_options()])
    @click.pass_context
    def command(context: click.Context, **_: object) -> None:
        given.update(flags_of(context))

    result = CliRunner().invoke(command, arguments)
    return result.exit_code, result.output, given


def test_nothing_typed_gives_nothing() -> None:
    assert run() == (0, "", {})


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["--port", "9k"], ("server", "port"), "9k"),
        (["--server-port", "9k"], ("server", "port"), "9k"),
        (
            ["--replica", "http://a", "--replica", "http://b"],
            ("replicas",),
            ("http://a", "http://b"),
        ),
        (["--no-log-access"], ("log", "access"), False),
        (["--log-access"], ("log", "access"), True),
        (["--policy", "random"], ("policy", "name"), "random"),
        (["--identify-session-headers", "x-a"], ("identify", "session_headers"), ("x-a",)),
    ],
)
def test_what_is_typed_is_passed_on(
    arguments: list[str], path: tuple[str, ...], value: object
) -> None:
    code, output, given = run(*arguments)
    assert (code, output) == (0, "")
    assert {key: typed for key, (_, typed) in given.items()} == {path: value}


def test_unknown_words_list_the_known_ones() -> None:
    code, output, _ = run("--policy", "fastest")
    assert code == 2
    assert "longest_prefix" in output


def test_help_has_sections_with_defaults() -> None:
    _, output, _ = run("--help")
    assert output.index("\nOptions:") < output.index("\nserver:") < output.index("\nlog:")
    assert "[default: 64Mi]" in output.replace("\n", " ").replace("  ", "").replace(
        "default:64", ""
    )
    for leaf in FLAG_LEAVES:
        assert "-".join(leaf.path).replace("_", "-") in output or leaf.path == ("replicas",)


def test_secrets_have_no_flag() -> None:
    assert "api-key" not in run("--help")[1]
