"""What kvproxy costs beside other proxies, in one run, as ratios: `make bench`.

The proxy has the first core to itself, mock engines and client share the second. CPU time is that
of the proxy's process tree. Rounds are interleaved and medians shown.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmark.relay.client import WORKLOADS

PORT, REPLICAS = 9180, (9181, 9182, 9183, 9184)
TICKS = os.sysconf("SC_CLK_TCK")
PYTHON = sys.executable
NGINX = """daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log {dir}/log;
events {{ worker_connections 4096; }}
http {{ access_log off; client_max_body_size 64m; client_body_buffer_size 2m;
 keepalive_requests 100000000; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
 fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
 upstream engines {{ hash $http_x_session_id consistent; {servers} keepalive 256; }}
 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://engines;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }} }}
"""


def peers(folder: Path, extra: list[str]) -> dict[str, str]:
    """Name to command. `extra` are NAME=COMMAND with {port} and {urls}."""
    urls = [f"http://127.0.0.1:{port}" for port in REPLICAS]
    flags = " ".join(f"--replica {url}" for url in urls)
    ports = " ".join(map(str, REPLICAS))
    found = {
        "bare relay": f"{PYTHON} -m tests.benchmark.relay.bare {PORT} {ports}",
        "kvproxy": f"{PYTHON} -m kvproxy serve --port {PORT} --no-log-access {flags}",
    }
    if nginx := shutil.which("nginx"):
        servers = "".join(f"server 127.0.0.1:{port}; " for port in REPLICAS)
        conf = folder / "nginx.conf"
        conf.write_text(NGINX.format(dir=folder, port=PORT, servers=servers))
        found["nginx"] = f"{nginx} -c {conf} -p {folder}"
    for named in extra:
        name, _, command = named.partition("=")
        found[name] = command.format(port=PORT, urls=" ".join(urls))
    return found


@contextmanager
def running(command: str, core: int) -> Iterator[int]:
    # Cores of the machine it runs on: with one alone, everything shares it.
    cores = sorted(os.sched_getaffinity(0))
    pinned = ["taskset", "-c", str(cores[min(core, len(cores) - 1)]), *shlex.split(command)]
    out = subprocess.DEVNULL
    process = subprocess.Popen(pinned, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return bytes(answer.read())


def until_it_answers(port: int, path: str, part: bytes) -> None:
    for _ in range(300):
        try:
            if part in get(port, path):
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"nothing answers on port {port}")


def tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def cpu_s(pid: int) -> float:
    fields = [Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split() for p in tree(pid)]
    return sum(int(f[11]) + int(f[12]) for f in fields) / TICKS


def rss_kb(pid: int) -> int:
    return sum(
        int(line.split()[1])
        for p in tree(pid)
        for line in Path(f"/proc/{p}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    )


def measure(pid: int, name: str) -> dict[str, float]:
    workload = WORKLOADS[name]
    script = f"chunks={workload.chunks}&ttft_us={workload.ttft_us}&itl_us={workload.itl_us}"
    for port in REPLICAS[:1]:
        get(port, f"/_script?{script}")
    cores = sorted(os.sched_getaffinity(0))
    client = ["taskset", "-c", str(cores[-1]), PYTHON, "-m", "tests.benchmark.relay.client"]
    before, rss = cpu_s(pid), rss_kb(pid)
    told = subprocess.run([*client, str(PORT), name], capture_output=True, text=True, check=True)
    seen: dict[str, float] = json.loads(told.stdout)
    used = (cpu_s(pid) - before) * 1e6
    assert seen["requests"], f"{name}: no answers"
    return {
        **seen,
        "cpu_us_request": used / seen["requests"],
        "cpu_us_chunk": used / max(1.0, seen["chunks"]),
        "kb_request": (rss_kb(pid) - rss) / seen["requests"],
    }


SHOWN = {
    "W1": ("1 KB, 32 at a time", ("cpu_us_request",)),
    "W2": ("400 KB turns, 16 at a time", ("cpu_us_request",)),
    "W2p": ("the same, paced", ("cpu_us_request", "first_us_p50", "first_us_p99")),
    "W3p": ("64 streams, paced", ("cpu_us_chunk", "delay_us_p50", "delay_us_p99")),
    "W4": ("400 KB, one at a time", ("first_us_p50",)),
    "W5": ("distinct 400 KB conversations", ("kb_request",)),
}


def show(rows: dict[tuple[str, str], list[dict[str, float]]], names: list[str]) -> None:
    for work, (title, figures) in SHOWN.items():
        if (work, "kvproxy") not in rows:
            continue
        print(f"\n{work}: {title}\n| | {' | '.join(figures)} | failed |")
        print("|---" * (len(figures) + 2) + "|")
        base = {f: median(rows[work, "kvproxy"], f) for f in figures}
        for name in names:
            runs = rows[work, name]
            cells = []
            for figure in figures:
                value = median(runs, figure)
                ratio = f" ({base[figure] / value:.2f})" if value > 0 and name != "kvproxy" else ""
                cells.append(f"{value:,.0f}{ratio}")
            print(f"| {name} | {' | '.join(cells)} | {sum(run['failed'] for run in runs):.0f} |")
    print("\nIn brackets: kvproxy's figure over this one's.")


def median(runs: list[dict[str, float]], figure: str) -> float:
    return statistics.median(run[figure] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", default="W1,W2,W3p,W4")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    asked = parser.parse_args()
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    mock = f"{PYTHON} -m tests.benchmark.relay.mock {' '.join(map(str, REPLICAS))}"
    with tempfile.TemporaryDirectory() as folder, running(mock, 1):
        until_it_answers(REPLICAS[-1], "/v1/models", b"mock")
        found = peers(Path(folder), asked.peer)
        for _ in range(asked.rounds):
            for name, command in found.items():
                with running(command, 0) as pid:
                    until_it_answers(PORT, "/v1/models", b"mock")
                    for work in asked.work.split(","):
                        rows.setdefault((work, name), []).append(measure(pid, work))
    show(rows, list(found))


if __name__ == "__main__":
    main()
