"""What a request costs the processor, by interpreter:
`python -m tests.benchmark.instructions W1 [PYTHON ...]`.

Machine instructions of a whole proxy without sockets, counted by valgrind where it is installed,
and CPU time, the interpreters taking turns. Instructions hold on a busy machine, times within one
run only. An interpreter needs what kvproxy imports; one of the same version can borrow it with
PYTHONPATH=.venv/lib/python3.11/site-packages.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Requests under valgrind, and those timed.
COUNTED = {"W1": 64, "W2": 32}
TIMED = {"W1": 2000, "W2": 80}
ROUNDS = 5
_CLIENTS = {"W1": 32, "W2": 8}


async def run(workload: str, count: int, *, counted: bool) -> float:
    """CPU seconds of a request, once every client has had three answers."""
    from tests.benchmark.count import large, small
    from tests.support.unplugged import STREAM_HEAD, Unplugged, answer, chunk, request, stream_end

    def exchange(number: int) -> tuple[bytes, bytes]:
        turn, client = divmod(number, _CLIENTS[workload])
        if workload == "W1":
            return request(f"s{client}", small(client)), answer(230, 224 if turn else 0)
        body = large(client, turn)
        tokens = len(body) // 4
        end = stream_end(tokens, tokens - 3000 if turn else 0)
        return request(f"c{client}", body), STREAM_HEAD + chunk() + end

    proxy, warm = Unplugged(), 3 * _CLIENTS[workload]
    for number in range(warm):
        await proxy.exchange(*exchange(number))
    # Made before: writing bodies would take more than reading them.
    exchanges = [exchange(number) for number in range(warm, warm + count)]
    spent = 0.0
    if counted:
        callgrind("on")
    for raw, answered in exchanges:
        began = time.thread_time()
        await proxy.exchange(raw, answered)
        spent += time.thread_time() - began
    if counted:
        callgrind("off")
    return spent / max(count, 1)


def callgrind(state: str) -> None:
    """Tells the valgrind that runs this process whether to count from here on."""
    command = ["callgrind_control", "-i", state, str(os.getpid())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def child(python: str, workload: str, count: int, *before: str) -> str:
    how = "--count" if before else "--run"
    command = [*before, python, "-m", "tests.benchmark.instructions", how, workload, str(count)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr[-2000:]}")
    return done.stdout


def instructions(python: str, workload: str) -> float:
    """Of a request: what so many take more than none, which is all that switching on and off is."""
    totals = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        valgrind = ("valgrind", "--tool=callgrind", "--instr-atstart=no")
        for count in (0, COUNTED[workload]):
            child(python, workload, count, *valgrind, f"--callgrind-out-file={out}")
            (line,) = [x for x in out.read_text().splitlines() if x.startswith("totals:")]
            totals.append(int(line.split()[1]))
    return (totals[1] - totals[0]) / COUNTED[workload]


def main(workload: str, pythons: list[str]) -> None:
    times: dict[str, list[float]] = {python: [] for python in pythons}
    for _ in range(ROUNDS):
        for python in pythons:
            times[python].append(float(child(python, workload, TIMED[workload])))
    first: tuple[float, float] | None = None
    for python in pythons:
        spent = statistics.median(times[python]) * 1e6
        counted = instructions(python, workload) if shutil.which("valgrind") else float("nan")
        first = first or (spent, counted)
        ratios = f"{spent / first[0]:.2f} {counted / first[1]:.2f}"
        print(f"{workload} {spent:6.0f} µs {counted / 1e3:6.0f}k instructions, {ratios}  {python}")


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in ("--run", "--count"):
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            counted = sys.argv[1] == "--count"
            print(runner.run(run(sys.argv[2], int(sys.argv[3]), counted=counted)))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "W1", sys.argv[2:] or [sys.executable])
