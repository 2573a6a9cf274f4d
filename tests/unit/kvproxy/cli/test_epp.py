import sys
from types import ModuleType

import pytest
from click.testing import CliRunner

from kvproxy.cli.epp import epp


def test_starts_the_picker_with_the_settings_of_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    picker = ModuleType("kvproxy.picker")

    def start(settings: object, load: object) -> int:
        seen.append(settings)
        return 3

    picker.run = start  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kvproxy.picker", picker)
    result = CliRunner().invoke(epp, ["--replica", "http://a:1", "--epp-port", "7"])
    assert result.exit_code == 3
    assert seen[0].epp.port == 7


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name="grpc")

    monkeypatch.setattr("importlib.import_module", missing)
    result = CliRunner().invoke(epp, ["--replica", "http://a:1"])
    assert result.exit_code == 1
    assert "pip install 'kvproxy[epp]'" in result.output
