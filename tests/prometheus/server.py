"""A Prometheus of its own on a loopback port, with deploy/prometheus in quick motion."""

import asyncio
import math
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
# So many times as fast: `for: 5m` becomes 3 s, a rate over 5 minutes one over 3 s.
SPEED = 100
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"\b(\d+)([smh])\b")
_SECONDS = re.compile(r"(_seconds > )(\d+)")


def quicker(text: str) -> str:
    """Durations and thresholds in seconds of a rule, divided by SPEED."""

    def shorter(found: re.Match[str]) -> str:
        return f"{int(found[1]) * _UNITS_MS[found[2]] // SPEED}ms"

    return _SECONDS.sub(lambda f: f"{f[1]}{int(f[2]) / SPEED:g}", _DURATION.sub(shorter, text))


def quick_rules(text: str) -> Any:
    tree = yaml.safe_load(text)
    for group in tree["groups"]:
        for rule in group["rules"]:
            rule |= {key: quicker(rule[key]) for key in ("expr", "for") if key in rule}
    return tree


def configuration(targets: Mapping[str, Sequence[str]]) -> Any:
    """deploy/prometheus/prometheus.yaml with other addresses, by job, looking twice a second."""
    tree = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    tree["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    jobs = {job["job_name"]: job for job in tree["scrape_configs"]}
    assert set(jobs) == set(targets), (set(jobs), set(targets))
    for name, addresses in targets.items():
        jobs[name]["static_configs"] = [{"targets": [a.removeprefix("http://") for a in addresses]}]
    return tree


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def process(command: Sequence[object], log: Path) -> AsyncIterator[None]:
    with log.open("wb") as said:
        words = [str(word) for word in command]
        child = await asyncio.create_subprocess_exec(*words, stdout=said, stderr=said)
        try:
            yield
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


class Server:
    """What it answers to queries."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self._url, self._client = url, client

    async def ask(self, path: str, **parameters: str) -> Any:
        async with self._client.get(f"{self._url}/api/v1/{path}", params=parameters) as answer:
            said = await answer.json()
        assert said["status"] == "success", (path, parameters, said)
        return said["data"]

    async def values(self, expr: str) -> list[float]:
        """Of all series of an expression; NaN, which is nothing to draw, is left out."""
        found = [float(row["value"][1]) for row in (await self.ask("query", query=expr))["result"]]
        return [value for value in found if not math.isnan(value)]

    async def firing(self) -> set[str]:
        alerts = (await self.ask("alerts"))["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    async def rules(self) -> list[Any]:
        return [r for group in (await self.ask("rules"))["groups"] for r in group["rules"]]


@asynccontextmanager
async def prometheus(
    program: Path, targets: Mapping[str, Sequence[str]], folder: Path
) -> AsyncIterator[Server]:
    """Ready to be asked. `folder` holds its files and is empty or not there."""
    (folder / "rules").mkdir(parents=True)
    for file in sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml")):
        (folder / "rules" / file.name).write_text(yaml.safe_dump(quick_rules(file.read_text())))
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(configuration(targets)))
    address = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command.append(f"--web.listen-address={address}")
    log = folder / "prometheus.log"
    async with process(command, log), aiohttp.ClientSession() as client:
        for _ in range(300):
            try:
                async with client.get(f"http://{address}/-/ready") as answer:
                    if answer.status == 200:
                        break
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)
        else:
            raise RuntimeError(log.read_text()[-2000:])
        yield Server(f"http://{address}", client)
