"""A real Prometheus scrapes proxies and emulated replicas: `make test-prometheus`.

With the files of deploy/: every recording rule gives values, every query of every dashboard draws
something, no alert fires on a healthy fleet (eviction aside: its cache is small on purpose), and
every alert fires on a fault made for it (but the one that only a bug makes fire).
Durations in the rules are divided by 100 (`server.SPEED`), so that 30 minutes are 18 seconds.
"""

import asyncio
import itertools
import json
import shutil
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadgen.emulator import EmulatorSettings, Fleet
from loadgen.traces.synth import write_traces
from tests.fleet.processes import child
from tests.prometheus import faults
from tests.prometheus.faults import Plant, again_and_again
from tests.prometheus.server import DEPLOY, SPEED, Server, free_port, process, prometheus
from tests.support.debian import unpacked

SKIP = 75
OUT = Path("out/test-prometheus")
# Shared with `make lint-deploy`.
TOOLS = Path("out/deploy-tools")
# Only an error of ours makes it fire, and none is known to be made from outside; its expression is
# held to by promtool (deploy/prometheus/tests).
BUGS_ALONE = {"KvproxyBackgroundFails"}
ALERTS_S, DRAWN_S = 100.0, 30.0
# `KvproxyHitRateFell` compares with what was an hour and more ago: this much of a good past, one
# hour in the rules' own time and some more, however fast the machine replays.
PAST_S = 3600 / SPEED + 10


def serve(*replicas: str) -> list[str]:
    command = ["serve", "--port", "0", "--no-log-access", "--log-level", "error"]
    command += ["--probe-interval-s", "0.5", "--events-discover-s", "1"]
    return [*command, *(part for url in replicas for part in ("--replica", url))]


async def load_run(url: str) -> None:
    """Its metrics.prom is what the node exporter shows."""
    traces = OUT / "traces"
    write_traces(20, 3, traces)
    command = [sys.executable, "-m", "kvproxy", "loadgen", "--traces", traces, "--url", url,
               "--users", "6", "--requests", "120", "--time-scale", "20", "--max-context", "20k",
               "--think-cap", "10s", "--start-spread", "1s", "--max-output", "40",
               "--max-client-lag", "60s", "--output", OUT / "runs"]  # fmt: skip
    with (OUT / "loadgen.log").open("wb") as log:
        words = [str(word) for word in command]
        running = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
        status = await running.wait()
    assert status == 0, (OUT / "loadgen.log").read_text()[-2000:]


def queries() -> list[tuple[str, str]]:
    """A name and an expression, as Grafana would ask."""
    found = []
    for file in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", "20s")
                found.append((f"{file.stem}: {panel['title']}: {target['legendFormat']}", expr))
    return found


async def empty_queries(server: Server) -> list[str]:
    """Those that drew nothing, asked until all did or the time is over."""
    asked = queries()
    missing = asked
    until = time.monotonic() + DRAWN_S
    while missing and time.monotonic() < until:
        missing = [each for each in missing if not await server.values(each[1])]
        await asyncio.sleep(0.5)
    print(f"dashboards: {len(asked) - len(missing)} of {len(asked)} queries drew something")
    return [f"dashboard query without data: {name}: {expr}" for name, expr in missing]


async def unfired(server: Server, wanted: set[str]) -> list[str]:
    """Alerts of `wanted` that did not fire, watched until all did or the time is over."""
    began, missing = time.monotonic(), set(wanted)
    while missing and time.monotonic() < began + ALERTS_S:
        for name in sorted(await server.firing() & missing):
            print(f"alert {name} fires, seen after {time.monotonic() - began:.0f} s of watching")
            missing.discard(name)
        await asyncio.sleep(0.5)
    return [f"alert did not fire: {name}" for name in sorted(missing)]


async def broken_rules(server: Server) -> list[str]:
    wrong = []
    for rule in await server.rules():
        if rule["health"] != "ok":
            wrong.append(f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}")
        elif rule["type"] == "recording":
            values = await server.values(rule["name"])
            print(f"recorded {rule['name']}: {', '.join(f'{v:.3g}' for v in values) or 'nothing'}")
            if not values:
                wrong.append(f"recording rule without values: {rule['name']}")
    return wrong


class Planted:
    """What goes on until the end; a fault that ends by itself is an error."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, plant: Plant, url: str, pause_s: float = 0.3) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(again_and_again(plant, url, pause_s)))
        return self._tasks[-1]

    async def stop(self) -> list[str]:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        return [f"a fault could not be planted: {e!r}" for e in ended if isinstance(e, Exception)]


async def watched(program: Path, exporter: Path) -> list[str]:
    """What is wrong."""
    numbers, planted = itertools.count(), Planted()
    async with AsyncExitStack() as stack:

        async def fleet(count: int = 1, **settings: Any) -> Fleet:
            made = Fleet(replace(EmulatorSettings(time_scale=20.0), **settings), count)
            await made.start()
            stack.push_async_callback(made.stop)
            return made

        async def proxy(*replicas: str) -> str:
            return (await stack.enter_async_context(child(serve(*replicas)))).url

        healthy = await fleet(3, hbm_tokens=60_000, dram_tokens=400_000, kv_events=True)
        forgets = await fleet(planted=frozenset({"forgets"}))
        loses = await fleet(kv_events=True, kv_events_buffer=1)
        slow = await fleet(time_scale=1.0, prefill_tok_s=1_000.0)
        main = await proxy(*healthy.urls)
        others = [await proxy(*f.urls) for f in (forgets, loses, slow)]
        alone = await proxy(f"http://127.0.0.1:{free_port()}")
        gone = f"127.0.0.1:{free_port()}"

        runs = f"127.0.0.1:{free_port()}"
        command = [exporter, "--collector.disable-defaults", "--collector.textfile",
                   f"--collector.textfile.directory={OUT / 'runs'}",
                   f"--web.listen-address={runs}"]  # fmt: skip
        await stack.enter_async_context(process(command, OUT / "exporter.log"))
        targets = {"kvproxy": [main], "engines": healthy.urls, "load-runs": [runs]}
        healthy_server = prometheus(program, targets, OUT / "healthy")
        async with healthy_server as server:
            warm = planted.start(faults.reworded(numbers), main)
            await load_run(main)
            wrong = await empty_queries(server) + await broken_rules(server)
            quiet = await server.firing() - {"KvproxyEvicting"}
            print(f"alerts of a healthy fleet: {', '.join(sorted(quiet)) or 'none'}")
            wrong += [f"alert on a healthy fleet: {name}" for name in sorted(quiet)]

            targets["kvproxy"] = [main, *others, alone, gone]
            async with prometheus(program, targets, OUT / "faulty") as faulty:
                planted.start(faults.forgotten, others[0])
                planted.start(faults.mistaken, others[0])
                planted.start(faults.losing(loses.listeners[0], numbers), others[1])
                planted.start(faults.waiting(numbers), others[2])
                planted.start(faults.refused, alone)
                past = asyncio.create_task(asyncio.sleep(PAST_S))
                await load_run(main)
                await past
                warm.cancel()
                await healthy.listeners[0].crash(abrupt=True)
                planted.start(faults.cold(numbers), main, 0.1)
                wanted = {r["name"] for r in await faulty.rules() if r["type"] == "alerting"}
                wrong += await unfired(faulty, wanted - BUGS_ALONE)
        wrong += await planted.stop()
    return wrong


async def main() -> int:
    program = unpacked("prometheus", "prometheus", TOOLS)
    exporter = unpacked("prometheus-node-exporter", "prometheus-node-exporter", TOOLS)
    if program is None or exporter is None:
        print("SKIPPED: no prometheus and prometheus-node-exporter (apt-get download)")
        return SKIP
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "runs").mkdir(parents=True)
    began = time.monotonic()
    wrong = await watched(program.resolve(), exporter.resolve())
    print(f"took {time.monotonic() - began:.0f} s")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
