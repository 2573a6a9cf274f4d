import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner

from loadgen.emulate_cli import emulate


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


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--hbm-tokens", "lots"], "lots"),
        (["--prefill-tok-s", "0"], "prefill_tok_s"),
        (["--tokenizer", "/nowhere"], "token"),
        (["--replicas", "0"], "0"),
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
