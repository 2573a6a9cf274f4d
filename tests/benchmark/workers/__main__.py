"""W1 with one process and with workers: CPU by role, what that scales to, and what the hop takes.

`python -m tests.benchmark.workers`. CPU of each process is its own count, so figures of a shared
machine are rough but no core has to be left for each process. Rounds are interleaved and medians
shown. Beside the paced load, at the same time, two bare processes ask and answer: what those wait
is the machine's, not the hop's.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.benchmark.relay.__main__ import TICKS, get, running, until_it_answers
from tests.benchmark.workers.coded import said
from tests.benchmark.workers.paced import CONNECTIONS, EVERY_S, SECONDS

PORT, REPLICAS = 9280, (9281, 9282, 9283, 9284)
PYTHON = sys.executable
_BUCKET = re.compile(rb'^kvproxy_hop_seconds_bucket\{le="([^"]+)"\} ([\d.e+]+)', re.MULTILINE)


# What a hop may add.
_ADDED_US = 300.0


class Hop(NamedTuple):
    """Upper ends of the buckets that medians and 99ths are in, in us, and the share that took no
    more than it may; the same of two bare processes."""

    p50: float
    p99: float
    soon: float
    bare_p50: float
    bare_p99: float
    bare_soon: float


class Seen(NamedTuple):
    """CPU in us a request: of those who serve clients, and of the process that places. Memory in
    MiB a process that serves, as its own share of what is shared."""

    requests: float
    wall_s: float
    serving_us: float
    placing_us: float
    own_mb: float


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted(map(int, found))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def own_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def roles(pid: int, workers: int) -> tuple[list[int], list[int]]:
    """(pids that serve, pids that place)."""
    if workers == 1:
        return [pid], []
    placing, *serving = children(pid)
    return serving, [placing]


@contextmanager
def served(workers: int, program: str = "kvproxy") -> Iterator[int]:
    flags = " ".join(f"--replica http://127.0.0.1:{port}" for port in REPLICAS)
    command = (
        f"{PYTHON} -m {program} serve --port {PORT} --no-log-access --workers {workers} {flags}"
    )
    process = subprocess.Popen(
        command.split(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    try:
        began = time.monotonic()
        assert process.stdout.readline().startswith(b"ready"), "kvproxy did not start"
        print(f"  {workers} workers: ready after {time.monotonic() - began:.2f} s", file=sys.stderr)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def measure(pid: int, workers: int, work: str) -> Seen:
    serving, placing = roles(pid, workers)
    before = [sum(map(cpu_s, pids)) for pids in (serving, placing)]
    client = [PYTHON, "-m", "tests.benchmark.relay.client", str(PORT), work]
    began = time.monotonic()
    told = subprocess.run(client, capture_output=True, check=True)
    wall_s = time.monotonic() - began
    requests = float(re.search(rb'"requests": ([\d.]+)', told.stdout)[1])  # type: ignore[index]
    after = [sum(map(cpu_s, pids)) for pids in (serving, placing)]
    used = [(b - a) * 1e6 / requests for a, b in zip(before, after, strict=True)]
    return Seen(requests, wall_s, used[0], used[1], max(map(own_mb, serving)))


def hop_counts() -> dict[float, float]:
    return {float(le): float(count) for le, count in _BUCKET.findall(get(PORT, "/metrics"))}


def quantile(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """Upper end of the bucket, in us, that holds this share of what lies between two scrapes."""
    total = after[float("inf")] - before.get(float("inf"), 0.0)
    for bound in sorted(after):
        if after[bound] - before.get(bound, 0.0) >= share * total:
            return bound * 1e6
    return float("inf")


def paced() -> Hop:
    modules = [["paced", str(PORT)], ["bare", str(SECONDS)]]
    commands = [[PYTHON, "-m", f"tests.benchmark.workers.{name}", arg] for name, arg in modules]
    before = hop_counts()
    bare = subprocess.Popen(commands[1], stdout=subprocess.PIPE)
    subprocess.run(commands[0], check=True)
    told, _ = bare.communicate(timeout=60)
    after = hop_counts()
    took = json.loads(told)
    counted = {bound: sum(us <= bound * 1e6 for us in took) for bound in after}
    return Hop(*_of(before, after), *_of(dict.fromkeys(after, 0.0), counted))


def _of(before: dict[float, float], after: dict[float, float]) -> tuple[float, float, float]:
    grown = {bound: after[bound] - before.get(bound, 0.0) for bound in after}
    soon = grown[_ADDED_US / 1e6] / grown[float("inf")]
    return quantile(before, after, 0.5), quantile(before, after, 0.99), soon


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", default="W1")
    asked = parser.parse_args()
    rows: dict[int, list[Seen]] = {1: [], asked.workers: []}
    hops: list[Hop] = []
    mock = f"{PYTHON} -m tests.benchmark.relay.mock {' '.join(map(str, REPLICAS))}"
    with running(mock, os.cpu_count() or 1):
        until_it_answers(REPLICAS[-1], "/v1/models", b"mock")
        for _ in range(asked.rounds):
            for workers, seen in rows.items():
                with served(workers) as pid:
                    seen.append(measure(pid, workers, asked.work))
                    if workers > 1:
                        hops.append(paced())
    show(rows, hops, asked.workers, asked.work)


def median(seen: list[Seen], field: str) -> float:
    return statistics.median(getattr(each, field) for each in seen)


def show(rows: dict[int, list[Seen]], hops: list[Hop], workers: int, work: str) -> None:
    print(f"\n{work}, CPU in us a request | serving | placing | req/s here | MiB a serving process")
    for count, seen in rows.items():
        rate = statistics.median(each.requests / each.wall_s for each in seen)
        figures = (median(seen, "serving_us"), median(seen, "placing_us"), rate)
        print(
            f"{count} | {' | '.join(f'{f:,.0f}' for f in figures)} | {median(seen, 'own_mb'):.1f}"
        )
    one = median(rows[1], "serving_us")
    serving, placing = (median(rows[workers], field) for field in ("serving_us", "placing_us"))
    most = min(workers * 1e6 / serving, 1e6 / max(placing, 1e-9)) / (1e6 / one)
    print(f"a core for each process: {most:.2f} x the req/s of one process")
    print(f"CPU of all processes, of one process's: {(serving + placing) / one:.2f}")
    hop = Hop(*map(statistics.median, zip(*hops, strict=True)))
    print(f"{CONNECTIONS / EVERY_S:.0f} a second, us, at most, and within {_ADDED_US:.0f} us:")
    print(f"  the hop:            p50 {hop.p50:,.0f}, p99 {hop.p99:,.0f}, {hop.soon:.1%}")
    bare = f"p50 {hop.bare_p50:,.0f}, p99 {hop.bare_p99:,.0f}, {hop.bare_soon:.1%}"
    print(f"  two bare processes: {bare}")
    print(f"the hop's messages, {said()}")


if __name__ == "__main__":
    main()
