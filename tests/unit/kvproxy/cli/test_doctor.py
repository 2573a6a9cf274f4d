import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvproxy.cli.doctor import doctor
from loadgen.emulator import EmulatorSettings
from tests.support.doctor import planted
from tests.support.emulated import emulated


def run(*arguments: str) -> Result:
    return CliRunner().invoke(doctor, list(arguments))


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """Nobody waits four seconds for an idle connection."""
    file = tmp_path / "kvproxy.yaml"
    file.write_text("upstream: {keepalive_s: 0.01}\n")
    return file


def test_a_well_replica(settings_file: Path) -> None:
    with emulated(planted()) as url:
        shown = run("--replica", url, "--config", str(settings_file), "--probe")
    assert shown.exit_code == 0, shown.output
    assert "Nothing found." in shown.stdout
    assert "… probing" in shown.stderr


def test_a_fault_as_json(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_KEY", "secret")
    given = ("--config", str(settings_file), "--json", "--api-key-env", "ENGINE_KEY")
    with emulated(EmulatorSettings(prefix_caching=False)) as url:
        shown = run("--replica", url, *given)
    assert shown.exit_code == 3
    found = json.loads(shown.stdout)["findings"]
    assert found[0]["code"] == "prefix_caching_off"
    assert "--enable-prefix-caching" in found[0]["mend"]


def test_mistakes_in_typing(tmp_path: Path) -> None:
    assert "--replica URL" in run().output
    unset = run("--replica", "http://h", "--api-key-env", "NO_SUCH_VARIABLE")
    assert (unset.exit_code, "NO_SUCH_VARIABLE" in unset.output) == (2, True)
    bad = tmp_path / "config.json"
    bad.write_text("{}")
    config = run("--replica", "http://h", "--model-config", str(bad))
    assert (config.exit_code, "num_hidden_layers" in config.output) == (2, True)
