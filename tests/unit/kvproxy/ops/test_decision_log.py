"""Files: bounded in size and number, whole after a crash, and never waited for."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from kvproxy.ops.decision_log import DecisionLog, LogLimits
from kvproxy.proxy import Record
from tests.support.fake_ports import World, stream


async def recorded(sessions: int, turns: int = 1) -> list[Record]:
    usage = {"prompt_tokens": 900, "completion_tokens": 2}
    world = World(stream("a", usage=usage), replicas=1)
    for number in range(sessions):
        for turn in range(turns):
            messages = [
                {"role": "user", "content": f"{number} {n} " * 800} for n in range(turn + 1)
            ]
            body = json.dumps({"model": "m", "messages": messages}).encode()
            header = {"x-session-id": f"s{number}", "content-type": "application/json"}
            await world.proxy.handle(world.exchange(body, header=header))
    return world.records


def log_to(path: Path, **given: Any) -> DecisionLog:
    return DecisionLog(path, LogLimits(**given))


def counts(log: DecisionLog) -> dict[str, float]:
    return {each.labels["outcome"]: each.value for each in log.counted()}


def made_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def test_files_are_bounded_and_stand_alone(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log = log_to(path, max_bytes=2**16, files=3)
    records = await recorded(20)
    for _ in range(40):
        for record in records:
            log.add(record)
    log.close()
    assert counts(log) == {"written": 800, "dropped": 0, "failed": 0}
    found = made_in(tmp_path)
    assert [file.name for file in found] == [f"decisions.jsonl{end}" for end in ("", ".1", ".2")]
    for file in found:
        assert file.stat().st_size < 2**16 + 8192
        assert file.stat().st_mode & 0o777 == 0o600
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert "kvproxy_decisions" in lines[0]
        assert all(line["base"] is None or line["base"] < line["n"] for line in lines[1:])


async def test_a_half_line_of_a_killed_process_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_text('{"kvproxy_decisions":1}\n{"n":1,')
    log = log_to(path)
    log.add((await recorded(1))[0])
    log.close()
    lines = path.read_text().splitlines()
    assert lines[1] == '{"n":1,'
    assert [json.loads(line).get("n") for line in lines[2:]] == [None, 1]


async def test_a_slow_disk_drops_and_does_not_wait(tmp_path: Path, monkeypatch: Any) -> None:
    gate = threading.Event()
    write = DecisionLog._write

    def slow(self: DecisionLog, batch: Any) -> None:
        gate.wait(10)
        write(self, batch)

    monkeypatch.setattr(DecisionLog, "_write", slow)
    log = log_to(tmp_path / "d", queue_max=2)
    for record in await recorded(10):
        log.add(record)
    assert counts(log)["dropped"] > 0
    gate.set()
    log.close()
    found = counts(log)
    assert found["written"] + found["dropped"] == 10


async def test_a_disk_that_fails_is_told_once(tmp_path: Path, caplog: Any) -> None:
    log = log_to(tmp_path / "absent" / "d")
    for record in await recorded(3):
        log.add(record)
    log.close()
    assert counts(log) == {"written": 0, "dropped": 0, "failed": 3}
    assert caplog.text.count("decisions are not written") <= 1


async def test_a_sample_has_whole_conversations(tmp_path: Path) -> None:
    log = log_to(tmp_path / "d", sample=0.5)
    for record in await recorded(24, turns=2):
        log.add(record)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "d").read_text().splitlines()[1:]]
    by_session = [line["session"] for line in lines]
    assert 0 < len(set(by_session)) < 24
    assert all(by_session.count(session) == 2 for session in by_session)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_what_no_disk_took_is_not_counted_as_written() -> None:
    log = log_to(Path("/dev/full"))
    for record in await recorded(5):
        log.add(record)
    log.close()
    assert counts(log) == {"written": 0, "dropped": 0, "failed": 5}
