"""Conversations through a proxy with a decision log, and the log through the simulator."""

import json
from pathlib import Path

from click.testing import CliRunner

from loadgen.emulator import EmulatorSettings, emulated
from loadgen.simulate_cli import simulate
from tests.integration.test_hit_rate import ENGINE, SCORE, replay
from tests.support.proxies import proxied

SPEED = 10


async def test_the_replayed_hit_rate_is_the_reported_one(tmp_path: Path) -> None:
    path, out = tmp_path / "decisions.jsonl", tmp_path / "out.json"
    assert isinstance(ENGINE, EmulatorSettings)
    async with (
        emulated(ENGINE, n=3) as urls,
        proxied(urls, score=SCORE, decisions={"path": str(path)}) as (_, url),
    ):
        run = await replay(f"{url}/v1/chat/completions")
    words = ["--replay-log", str(path), "--policy", "seconds", "--policy", "round_robin"]
    words += ["--prefill-tok-s", str(10_000 * SPEED), "--decode-step-s", "0.0015"]
    result = CliRunner().invoke(simulate, [*words, "--json", str(out)])
    assert result.exit_code == 0, result.output
    print(result.output)
    arms = {arm["policy"]: arm for arm in json.loads(out.read_bytes())["arms"]}
    replayed = 100 * arms["seconds"]["hit_rate_reported"]
    print(f"reported {run.hit_rate:.1f} %, replayed {replayed:.1f} %, {path.stat().st_size} bytes")
    assert abs(replayed - run.hit_rate) < 4
    assert f"hit {run.hit_rate:.1f} %" in result.output
    # How much less depends on the order in which a busy machine let the conversations ask.
    assert 100 * arms["round_robin"]["hit_rate_reported"] < replayed - 1
