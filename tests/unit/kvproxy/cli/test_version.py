import json

from click.testing import CliRunner

from kvproxy.cli.version import version


def test_text() -> None:
    assert CliRunner().invoke(version).output.startswith("kvproxy 0.")


def test_json() -> None:
    shown = json.loads(CliRunner().invoke(version, ["--json"]).output)
    assert shown["kvproxy"].startswith("0.")
    assert set(shown["libraries"]) >= {"aiohttp", "uvloop"}
