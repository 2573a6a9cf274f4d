import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadgen.compare_cli import compare
from loadgen.emulator import EmulatorSettings
from tests.support.emulated import emulated
from tests.support.traces import weka_bytes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--arm", "a=http://127.0.0.1:1"), "two arms or more"),
        (("--arm", "a=http://127.0.0.1:1", "--arm", "a=http://127.0.0.1:2"), "own name"),
        (("--arm", "a", "--arm", "b=http://127.0.0.1:1"), "NAME=URL"),
        (("--policy", "seconds", "--policy", "random"), "needs the --replica"),
    ],
)
def test_arms_that_make_no_comparison(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = CliRunner().invoke(compare, ["--traces", str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert said in done.output


def test_cache_strategies_are_compared_on_emulators_of_their_own(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.json").write_bytes(weka_bytes(id=f"t{number}"))
    out = tmp_path / "found.out"
    arguments = (
        "--traces", tmp_path, "--emulate", "none=--no-prefix-caching", "--emulate",
        "hbm=--hbm-tokens 1k", "--emulate", "dram=--hbm-tokens 1k --dram-tokens 4k",
        "--users", 1, "--repeats", 1, "--time-scale", 1000, "--json", out,
    )  # fmt: skip
    done = CliRunner().invoke(compare, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    none, hbm, dram = json.loads(out.read_bytes())["arms"]
    assert not none["hit_rate_reported"]
    assert 0 < hbm["hit_rate_reported"] <= dram["hit_rate_reported"]
    assert [arm["requests"] for arm in (none, hbm, dram)] == [4, 4, 4]


def test_policies_are_compared_on_one_fleet(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.json").write_bytes(weka_bytes(id=f"t{number}"))
    out = tmp_path / "found.out"
    with emulated(EmulatorSettings(time_scale=1000.0)) as url:
        arguments = (
            "--traces", tmp_path, "--policy", "round_robin", "--policy", "seconds",
            "--replica", url, "--users", 1, "--repeats", 1, "--time-scale", 1000, "--json", out,
        )  # fmt: skip
        done = CliRunner().invoke(compare, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    arms = json.loads(out.read_bytes())["arms"]
    assert [arm["policy"] for arm in arms] == ["round_robin", "seconds"]
    # Caches were emptied between the arms, or the second would hit what the first had sent.
    assert arms[0]["hit_rate_reported"] == arms[1]["hit_rate_reported"] < 1
    assert arms[0]["requests"] == arms[1]["requests"] == 4
    # One replica that holds everything: its LRU is all that there is to reach.
    assert arms[1]["attained_of_pooled_lru"] == arms[1]["attained"]
    assert arms[1]["hit_rate_offline_min"] == arms[1]["hit_rate_pooled_lru"]
    assert "of one pooled LRU" in done.output
