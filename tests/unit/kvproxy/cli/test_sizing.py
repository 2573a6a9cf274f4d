import json
from pathlib import Path

from click.testing import CliRunner, Result

from kvproxy.cli.sizing import sizing

LLAMA = str(Path(__file__).parents[4] / "config/models/llama-3.1-8b.json")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(sizing, list(arguments))


def test_a_known_model() -> None:
    shown = run("--model-config", LLAMA, "--hbm", "64GB", "--dram", "512GiB")
    assert shown.exit_code == 0
    assert "131,072 bytes (bfloat16, 32 layers)" in shown.output
    assert "488,281 tokens a replica" in shown.output
    assert "LMCACHE_MAX_LOCAL_CPU_SIZE=512" in shown.output
    assert "LMCache pays" in shown.output


def test_json_in_fp8() -> None:
    shown = run("--model-config", LLAMA, "--hbm", "64G", "--kv-dtype", "fp8", "--json")
    found = json.loads(shown.output)
    assert (found["token_bytes"], found["hbm_tokens"]) == (65_536, 976_562)


def test_mistakes(tmp_path: Path) -> None:
    assert run("--model-config", LLAMA, "--hbm", "much").exit_code == 2
    bad = tmp_path / "config.json"
    bad.write_text("[]")
    assert "not a JSON object" in run("--model-config", str(bad), "--hbm", "1G").output
    windows = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8,
               "sliding_window": 4096}  # fmt: skip
    bad.write_text(json.dumps(windows))
    assert "does not grow" in run("--model-config", str(bad), "--hbm", "1G").output
