import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from kvproxy.cli.serve import serve
from kvproxy.settings.model import Settings


def run(*arguments: str) -> Result:
    return CliRunner().invoke(serve, arguments)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Stands in for the server: what it was started with."""
    seen: list[Settings] = []
    app = ModuleType("kvproxy.process")

    def start(settings: Settings, load: Callable[[], Settings]) -> int:
        seen.append(settings)
        assert load() == settings
        return 3

    app.run = start  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kvproxy.process", app)
    return seen


def test_starts_the_server_and_exits_with_its_code(served: list[Settings]) -> None:
    result = run("--replica", "http://a:1", "--port", "9000", "--no-log-access")
    assert result.exit_code == 3
    assert [(s.server.port, s.log.access, s.replicas[0].id) for s in served] == [
        (9000, False, "a:1")
    ]


def test_file_named_by_flag_or_variable(
    served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "k.yaml"
    file.write_text("replicas: [http://f:1]\n")
    assert run("--config", str(file)).exit_code == 3
    monkeypatch.setenv("KVPROXY_CONFIG", str(file))
    assert run().exit_code == 3
    assert [s.replicas[0].id for s in served] == ["f:1", "f:1"]


def test_print_config_starts_nothing(served: list[Settings]) -> None:
    result = run("--replica", "http://a:1", "--policy", "random", "--print-config")
    assert result.exit_code == 0
    assert "  name: random  # --policy\n" in result.output
    assert served == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Error: replicas: at least one is needed"),
        (["--replica", "a:1"], "Error: --replica: replicas.0.url: 'a:1'"),
        (["--replica", "http://a", "--port", "x"], "Error: --port: server.port: 'x' is not a"),
        (["--config", "none.yaml"], "Error: none.yaml: cannot be read"),
        (["--prot", "1"], "--prot"),
    ],
)
def test_mistakes_start_nothing(served: list[Settings], arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert served == []


def test_without_replicas_it_says_what_to_type(
    served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in ([], ["--port", "9000"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "kvproxy serve --replica http://gpu-1:8000" in result.output
        assert "kvproxy emulate" in result.output
    # Not beside other mistakes, which come first.
    assert "emulate" not in run("--policy", "none").output
    assert served == []
