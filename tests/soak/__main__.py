"""`python -m tests.soak --seconds 600`: kvproxy as a process of its own under load and faults.

Fails when a request failed that some replica could have served, when a stream ended without its end
or an error event, when anything is still held afterwards, or when memory is not flat
(tests/soak/memory.py). All that is bounded has bounds that are full long before it is judged, so
what grows then is a leak; `--census` has every minute told what memory is made of
(tests/soak/census.py), in out/soak.census.
"""

import argparse
import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import BinaryIO

import yaml

from loadgen.emulator import EmulatorSettings
from tests.soak.bounds import SMALL
from tests.soak.fleet import Suffering
from tests.soak.load import Load, Outcomes
from tests.soak.memory import Sample, Verdict, slope
from tests.support.wire import ask, request

ENGINE = EmulatorSettings(
    model="m",
    hbm_tokens=20_000,
    prefill_tok_s=50_000,
    decode_step_s=0.01,
    chunk_interval_s=0.02,
    responses_stored=0,
)
_LOG, _CENSUS, _LIVE = (
    Path("out", name) for name in ("soak.log", "soak.census", "soak.census.live")
)
_GAUGES = re.compile(
    rb"^kvproxy_(replica_in_flight|replica_queue_seconds|queue_length)\S* (\S+)", re.MULTILINE
)


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--users", type=int, default=24)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--census", action="store_true")
    asked = parser.parse_args()
    print(f"seed {asked.seed}: {asked.users} users, {asked.replicas} replicas, {asked.seconds:g} s")
    fleet = Suffering(ENGINE, asked.replicas, Random(asked.seed))
    urls = await fleet.start()
    try:
        async with serving(urls) as (process, url, admin):
            fleet.admin = admin
            load = Load(url, asked.users, asked.seed)
            until = asyncio.get_running_loop().time() + asked.seconds
            resident: list[Sample] = []
            watch = asyncio.create_task(_watch(process.pid, resident, census=asked.census))
            faults = asyncio.create_task(fleet.suffer(until))
            await asyncio.gather(load.run(until), faults)
            watch.cancel()
            held = await _held(admin, fleet)
            peak = len(os.listdir(f"/proc/{process.pid}/fd")) if sys.platform == "linux" else 0
    finally:
        await fleet.stop()
    answers = sum(load.outcomes.by_path.values())
    memory = Verdict(slope(_in_use(), answers), slope(resident, answers), answers)
    return _report(load.outcomes, fleet, held, memory, peak)


@contextlib.asynccontextmanager
async def serving(urls: list[str]) -> AsyncIterator[tuple[Process, str, str]]:
    """The process, its URL, and where operators reach it. Its log goes to out/soak.log."""
    settings = {
        "replicas": urls,
        "server": {"port": 0, "grace_s": 2},
        "admin": {"listen": "127.0.0.1:0"},
        "probe": {"interval_s": 0.25, "timeout_s": 1, "stall_s": 1.5, "cool_max_s": 4},
        "upstream": {"idle_timeout_s": 8, "connect_timeout_s": 1},
        "log": {"format": "text", "access": False},
        **SMALL,
    }
    with tempfile.TemporaryDirectory() as folder, _log() as log:
        file = _write(Path(folder, "kvproxy.yaml"), yaml.safe_dump(settings))
        for each in (_CENSUS, _LIVE):
            each.unlink(missing_ok=True)
        program = ("-m", "tests.soak.census", str(_CENSUS), "serve", "--config", str(file))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program),
            stdout=PIPE,
            stderr=log,
        )
        assert process.stdout is not None
        try:
            url = (await process.stdout.readline()).decode().split()[1]
            yield process, url, _operators()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


def _log() -> BinaryIO:
    _LOG.parent.mkdir(exist_ok=True)
    return _LOG.open("wb")


def _write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def _operators() -> str:
    """The address is in the log only."""
    said = re.search(r"operators: (\S+)", _LOG.read_text())
    assert said is not None
    return said[1]


def _pages(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def _in_use() -> list[Sample]:
    lines = [line.split() for line in _LIVE.read_text().splitlines()]
    return [(float(at), int(size) / 2**20) for at, size in lines]


async def _watch(pid: int, into: list[Sample], *, census: bool) -> None:
    """Resident MiB every second; the process is asked to tell the rest."""
    loop, page = asyncio.get_running_loop(), os.sysconf("SC_PAGE_SIZE")
    while True:
        into.append((loop.time(), _pages(pid) * page / 2**20))
        os.kill(pid, signal.SIGUSR2)
        if census and not len(into) % 60:
            os.kill(pid, signal.SIGUSR1)
        await asyncio.sleep(1.0)


async def _held(admin: str, fleet: Suffering) -> list[str]:
    """Gauges that do not return to zero, and requests that engines keep."""
    held: list[str] = []
    for _ in range(100):
        page = (await ask(admin, request("GET", "/metrics"))).body
        found = [(name.decode(), float(value)) for name, value in _GAUGES.findall(page)]
        assert found, "the gauges have other names"
        held = [f"{name} {value:g}" for name, value in found if value]
        if await fleet.inflight():
            held.append(f"engines have {await fleet.inflight()}")
        if not held:
            break
        await asyncio.sleep(0.1)
    return held


def _report(
    outcomes: Outcomes, fleet: Suffering, held: list[str], memory: Verdict, open_files: int
) -> int:
    asked = sum(outcomes.by_path.values())
    print("happened: " + ", ".join(f"{name} {n}" for name, n in sorted(fleet.happened.items())))
    print("answered: " + ", ".join(f"{path} {n}" for path, n in sorted(outcomes.by_path.items())))
    print(
        f"{asked} answers: {outcomes.whole} whole, {outcomes.told} cut and told so, "
        f"{outcomes.left} clients left, {outcomes.twice} given up after two replicas, "
        f"{len(outcomes.bad)} FAILED"
    )
    for line in outcomes.bad[:20]:
        print(f"  {line}")
    print(f"held afterwards: {', '.join(held) or 'nothing'}; open files {open_files}")
    print(memory)
    return 1 if outcomes.bad or held or not asked or memory.leaks or memory.grows else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
