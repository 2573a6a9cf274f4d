from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from loadgen.simulate_cli import simulate
from loadgen.traces.synth import write_traces


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    directory = tmp_path / "traces"
    write_traces(4, 1, directory)
    return directory


def test_a_short_comparison_prints_a_table_and_writes_json(traces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["--traces", str(traces), "--conversations", "2", "--duration", "2m"]
    arguments += ["--policy", "seconds", "--policy", "round_robin", "--json", str(out)]
    result = CliRunner().invoke(simulate, arguments)
    assert result.exit_code == 0, result.output
    assert "round_robin" in result.output
    assert [arm["policy"] for arm in orjson.loads(out.read_bytes())["arms"]] == [
        "seconds",
        "round_robin",
    ]


@pytest.mark.parametrize(
    "wrong",
    [["--policy", "luck"], ["--duration", "1h", "--until-empty"], ["--hbm-tokens", "many"]],
)
def test_wrong_options_are_told_apart(traces: Path, wrong: list[str]) -> None:
    result = CliRunner().invoke(simulate, ["--traces", str(traces), *wrong])
    assert result.exit_code == 2
