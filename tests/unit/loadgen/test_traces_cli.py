import json
from pathlib import Path

from click.testing import CliRunner, Result

from loadgen.cli import loadgen


def run(*arguments: object) -> Result:
    return CliRunner().invoke(loadgen, [str(argument) for argument in arguments])


def test_synth_then_inspect(tmp_path: Path) -> None:
    made = run("synth", "--conversations", 3, "--seed", 2, "--out", tmp_path / "s")
    assert "3 traces" in made.output
    shown = run("inspect", "--traces", tmp_path / "s")
    assert shown.exit_code == 0, shown.output
    assert "requests per trace" in shown.output
    figures = json.loads(run("inspect", "--traces", tmp_path / "s", "--json").output)
    assert figures["traces"] == 3


def test_pack_then_inspect(tmp_path: Path) -> None:
    run("synth", "--conversations", 3, "--seed", 2, "--out", tmp_path / "s")
    packed = run("pack", "--traces", tmp_path / "s", "--out", tmp_path / "all.jsonl")
    assert packed.exit_code == 0, packed.output
    figures = [
        json.loads(run("inspect", "--traces", path, "--json").output)
        for path in (tmp_path / "s", tmp_path / "all.jsonl")
    ]
    assert figures[0] == figures[1]
    assert "must end in .jsonl" in run("pack", "--traces", tmp_path, "--out", "x").output
