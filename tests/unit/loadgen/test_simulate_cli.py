import json
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvproxy.core.tier_costs import TierCosts
from loadgen import simulate_cli
from loadgen.simulate import grid
from loadgen.simulate_cli import simulate
from tests.support.traces import weka


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    for index in range(3):
        content = weka(id=f"trace_{index}")
        (tmp_path / f"trace_{index}.json").write_text(json.dumps(content))
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(simulate, [str(word) for word in words])


def test_policies_are_compared_and_written(traces: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.json.txt"
    words = ("--policy", "seconds", "--policy", "round_robin+queue", "--conversations", 2)
    result = run("--traces", traces, "--hbm-tokens", "2k", *words, "--json", file)
    assert result.exit_code == 0, result.output
    assert "round_robin+queue" in result.output
    found = json.loads(file.read_text())
    assert [arm["policy"] for arm in found["arms"]] == ["seconds", "round_robin+queue"]
    assert found["hbm_tokens"] == 2000


def test_one_seed_is_one_run(traces: Path) -> None:
    words = ("--traces", traces, "--duration", "5m", "--seed", 7)
    assert run(*words).output == run(*words).output


def test_an_oracle_and_a_dram_tier_can_be_had(traces: Path) -> None:
    result = run("--traces", traces, "--oracle", "--dram-tokens", "4k", "--hbm-tokens", "1k")
    assert result.exit_code == 0, result.output


def test_the_grid_is_a_list_of_cells(
    traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate_cli, "CONVERSATIONS", (1, 2))
    file = tmp_path / "grid.json.txt"
    words = ("--replicas", 2, "--hbm-tokens", "1k")
    result = run("--traces", traces, "--grid", *words, "--json", file)
    assert result.exit_code == 0, result.output
    cells = json.loads(file.read_text())
    assert [cell["conversations"] for cell in cells] == [1, 2]
    assert {(cell["replicas"], cell["hbm_tokens"]) for cell in cells} == {(2, 1000)}
    assert set(cells[0]["arms"]) == set(grid.ARMS)


def test_a_published_comparison_is_played(
    traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate_cli, "USERS", (2,))
    monkeypatch.setattr(simulate_cli, "SEEDS", (1,))
    file = tmp_path / "preset.json.txt"
    result = run("--traces", traces, "--preset", "mi300x-minimax-m2.5", "--json", file)
    assert result.exit_code == 0, result.output
    assert [load["load"] for load in json.loads(file.read_text())["loads"]] == ["base", "stress"]


def test_tiers_are_compared_at_measured_costs(traces: Path, tmp_path: Path) -> None:
    costs = TierCosts(4_000.0, 0.0, 0.0, 0.01, 0.0, 0.0, 1e6, 1000, 140_000, 0.25)
    preset, file = tmp_path / "costs.txt", tmp_path / "tiers.json.txt"
    preset.write_text(json.dumps({"costs": asdict(costs)}))
    words = ("--preset-file", preset, "--dram-tokens", "1M", "--duration", "5m", "--json", file)
    result = run("--traces", traces, "--tiers", *words)
    assert result.exit_code == 0, result.output
    assert "140,000 tokens of HBM" in result.output
    assert [step["users"] for step in json.loads(file.read_text())] == [1, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--policy", "best"), "best"),
        (("--policy", "seconds+luck"), "after \\+"),
        (("--duration", "1m", "--until-empty"), "exclude"),
        (("--max-context", "1"), "Error"),
        (("--tiers",), "--preset-file"),
    ],
)
def test_nonsense_is_refused(traces: Path, words: tuple[str, ...], says: str) -> None:
    result = run("--traces", traces, *words)
    assert result.exit_code != 0
    assert says.replace("\\", "") in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--decode-step-s", 0), "decode_step_s must be positive"),
        (("--hbm-tokens", 128), "cannot hold the largest request"),
        (("--dram-tokens", 100), "does not hold one chunk"),
        (("--fluid", "--dram-tokens", "4k"), "one tier"),
        (("--duration", "1ms"), "nothing finished"),
        (("--grid", "--duration", "1ms"), "nothing finished"),
    ],
)
def test_what_cannot_be_played_is_explained(
    traces: Path, words: tuple[object, ...], said: str
) -> None:
    result = run("--traces", traces, *words)
    assert result.exit_code in (1, 2)
    assert said in result.output
    assert "Traceback" not in result.output


def test_traces_of_common_ids_share_what_they_say_and_have_their_own_blocks(tmp_path: Path) -> None:
    """Two conversations of three prompts, of which the first 40 blocks are the same for both."""
    rows = []
    for session in (0, 1):
        for turn in range(3):
            ids = [*range(40), *range(1000 * (session + 1), 1000 * (session + 1) + turn)]
            rows.append({"timestamp": 1000 * len(rows), "input_length": 512 * len(ids) + 1,
                         "output_length": 1, "hash_ids": [*ids, 9000 + len(rows)],
                         "session_id": session})  # fmt: skip
    file, found = tmp_path / "rows.jsonl", tmp_path / "found.txt"
    file.write_text("\n".join(map(json.dumps, rows)))
    words = ("--conversations", 2, "--replicas", 1, "--policy", "round_robin")
    result = run("--traces", file, *words, "--json", found)
    assert result.exit_code == 0, result.output
    told = json.loads(found.read_text())
    prompts = sum(row["input_length"] for row in rows)
    # All but the first sight of each block.
    held = sum(512 * (len(row["hash_ids"]) - 1) for row in rows) - 512 * (40 + 2 + 2)
    (arm,) = told["arms"]
    assert told["bounds"]["infinite"] == pytest.approx(held / prompts)
    assert arm["hit_rate_reported"] == pytest.approx(held / prompts)
    assert told["bounds"]["offline_min"] >= arm["hit_rate_reported"] - 1e-9


@pytest.mark.parametrize(
    ("odd", "said"),
    [({"block_size": 16}, "several sizes"), ({"first": 2**31}, "block ids")],
)
def test_blocks_that_cannot_be_simulated_are_named(
    traces: Path, odd: dict[str, object], said: str
) -> None:
    first = odd.pop("first", 1)
    size = int(str(odd.get("block_size", 64)))
    assert isinstance(first, int)
    turn = {"in": 128, "out": 1, "hash_ids": list(range(first, first + 128 // size))}
    content = weka(id="odd", block_size=size, requests=[turn])
    (traces / "odd.json").write_text(json.dumps(content))
    result = run("--traces", traces)
    assert result.exit_code == 2
    assert said in result.output
