import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadgen.compare_cli import compare
from loadgen.emulator import EmulatorSettings, Fleet
from tests.support.traces import weka_bytes


@pytest.fixture
def emulated() -> Iterator[str]:
    """One replica in a loop of its own: the command under test runs another."""
    loop, ready, url = asyncio.new_event_loop(), threading.Event(), [""]
    over = asyncio.Event()

    async def serve() -> None:
        settings = EmulatorSettings(time_scale=1000.0)
        fleet = Fleet(settings, 1, "127.0.0.1", 0)
        await fleet.start()
        url[0] = fleet.urls[0]
        ready.set()
        await over.wait()
        await fleet.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield url[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


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


def test_policies_are_compared_on_one_fleet(tmp_path: Path, emulated: str) -> None:
    for number in range(2):
        (tmp_path / f"{number}.json").write_bytes(weka_bytes(id=f"t{number}"))
    out = tmp_path / "found.out"
    done = CliRunner().invoke(
        compare,
        ["--traces", str(tmp_path), "--policy", "round_robin", "--policy", "seconds", "--replica",
         emulated, "--users", "1", "--repeats", "1", "--time-scale", "1000", "--json", str(out)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    arms = json.loads(out.read_bytes())["arms"]
    assert [arm["policy"] for arm in arms] == ["round_robin", "seconds"]
    # Caches were emptied between the arms, or the second would hit what the first had sent.
    assert arms[0]["hit_rate_reported"] == arms[1]["hit_rate_reported"] < 1
    assert arms[0]["requests"] == arms[1]["requests"] == 4
