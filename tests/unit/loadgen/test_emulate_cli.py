import json
import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import asdict

import pytest
from click.testing import CliRunner

from kvproxy.core.tier_costs import TierCosts
from loadgen import emulate_cli
from loadgen.emulate_cli import emulate
from loadgen.engine_model import EngineRates


def test_serves_until_it_is_told_to_stop():
    code = "from loadgen.emulate_cli import emulate; emulate()"
    command = [sys.executable, "-c", code, "--port", "0", "--replicas", "2", "--hbm-tokens", "64k"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(2)]
        assert [word for word, _ in lines] == ["ready", "ready"]
        with urllib.request.urlopen(lines[1][1] + "/metrics") as response:
            assert b'num_gpu_blocks="4000"' in response.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_a_calibration_says_how_fast_and_how_large(tmp_path, monkeypatch):
    costs = TierCosts(41_000.0, 1e-9, 0.002, 0.004, 5e-5, 3e-8, 380_000.0, 131_072, 880_000, 0.02)
    file = tmp_path / "preset.txt"
    file.write_text(json.dumps({"costs": asdict(costs)}))
    seen = []

    def fleet(settings, *_):
        seen.append(settings)
        raise ValueError("enough")

    monkeypatch.setattr(emulate_cli, "Fleet", fleet)
    CliRunner().invoke(emulate, ["--preset-file", str(file), "--dram-tok-s", "5"])
    (settings,) = seen
    assert settings.hbm_tokens == 880_000
    assert settings.rates() == EngineRates(41_000.0, 1e-9, 0.004, 5e-5, 3e-8, 5.0, 0.002)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--hbm-tokens", "lots"], "lots"),
        (["--prefill-tok-s", "0"], "prefill_tok_s"),
        (["--tokenizer", "/nowhere"], "token"),
        (["--replicas", "0"], "0"),
        (["--port", "70000"], "70000"),
        (["--max-model-len", "0"], "max_model_len"),
        (["--port", "65535", "--replicas", "2"], "beyond 65535"),
        (["--dram-tokens", "100"], "does not hold one chunk"),
    ],
)
def test_wrong_options_are_explained(arguments, complaint):
    result = CliRunner().invoke(emulate, arguments)
    assert result.exit_code == 2
    assert complaint in result.output


def test_help_names_every_option_with_its_default():
    text = CliRunner().invoke(emulate, ["--help"]).output
    for option in ("--hbm-tokens", "--dram-tokens", "--time-scale", "--chunk-interval-s"):
        assert option in text
    assert "1M" in text
