import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from kvproxy.core.tier_costs import TierCosts
from loadgen.calibration.cli import calibrate

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 128,
}
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    return file


@pytest.mark.skipif(HAS_TORCH, reason="torch is there")
def test_without_torch_it_says_what_to_install(config: Path) -> None:
    result = CliRunner().invoke(calibrate, ["--model-config", str(config)])
    assert result.exit_code == 1
    assert "kvproxy[calibrate]" in result.output


@pytest.mark.skipif(not HAS_TORCH, reason="torch is optional: pip install kvproxy[calibrate]")
def test_a_file_is_written_that_others_read(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.txt"
    words = ["--model-config", str(config), "--dtype", "fp32", "--kv-dtype", "fp32",
             "--max-context", "512", "--device", "cpu", "--repeats", "1"]  # fmt: skip
    result = CliRunner().invoke(calibrate, [*words, "--json", str(file)])
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert TierCosts.from_json(found).kv_bytes_per_token == 2 * 2 * 2 * 16 * 4
    assert found["model"]["layers"] == 2
    assert found["command"] == " ".join(["kvproxy calibrate", *words])
    assert "Where a DRAM tier pays" in result.output
    config.write_text(json.dumps(CONFIG | {"kv_lora_rank": 4}))
    refused = CliRunner().invoke(calibrate, words)
    assert "kv_lora_rank" in refused.output
    assert refused.exit_code == 1
