"""A real vLLM replica on the CPU: small model, small cache, everything observable switched on."""

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.support.realstack.places import Places
from tests.support.realstack.processes import free_ports, running

MODEL = "tiny"
# The CPU attention kernel takes multiples of 32 only.
BLOCK_TOKENS = 32
CONTEXT_TOKENS = 32_768
# 35,200 tokens: more than one longest prompt, less than what six conversations need.
CACHE_BLOCKS = 1100
SEQUENCES, BATCHED_TOKENS = 16, 4096


@dataclass(frozen=True, slots=True)
class Engine:
    """Addresses of one replica; the ZMQ ones are empty when it publishes no events."""

    url: str
    events: str
    replay: str
    log: Path

    async def reset_cache(self) -> None:
        """Empties the HBM tier; what lies in other tiers stays there."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/reset_prefix_cache") as response,
        ):
            assert response.status == 200, await response.text()


@asynccontextmanager
async def replica(
    places: Places,
    index: int,
    *,
    cache_blocks: int = CACHE_BLOCKS,
    kv_events: bool = True,
    lmcache_port: int | None = None,
    nixl: bool = False,
    options: Sequence[str] = (),
) -> AsyncIterator[Engine]:
    """`index` names the log and picks the core; `lmcache_port` is a LMCache server's ZMQ port;
    with `nixl` replicas hand KV to each other; `options` go onto the engine's command line."""
    port, events_port, replay_port, side_port = free_ports(4)
    command = [*_command(places, port, cache_blocks), *options]
    events = replay = ""
    if kv_events:
        events, replay = f"tcp://127.0.0.1:{events_port}", f"tcp://127.0.0.1:{replay_port}"
        config = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            # Anything but a wildcard would make vLLM connect instead of bind.
            "endpoint": f"tcp://*:{events_port}",
            "replay_endpoint": replay,
            "topic": f"kv@127.0.0.1:{port}@{MODEL}",
        }
        command += ["--kv-events-config", json.dumps(config)]
    if lmcache_port is not None:
        transfer = {
            "kv_connector": "LMCacheMPConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": {
                "lmcache.mp.host": "tcp://127.0.0.1",
                "lmcache.mp.port": lmcache_port,
            },
        }
        command += ["--kv-transfer-config", json.dumps(transfer)]
    environment = _environment(places, index)
    if nixl:
        transfer = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
        command += ["--kv-transfer-config", json.dumps(transfer | {"kv_buffer_device": "cpu"})]
        environment |= {
            "PYTHONPATH": str(places.nixl),
            "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
            "VLLM_NIXL_SIDE_CHANNEL_PORT": str(side_port),
            "UCX_TLS": "tcp,self",
            "UCX_NET_DEVICES": "lo",
        }
    url, log = f"http://127.0.0.1:{port}", places.logs / f"replica-{index}.log"
    async with running(command, environment, log, f"{url}/health"):
        yield Engine(url, events, replay, log)


def _command(places: Places, port: int, cache_blocks: int) -> list[str]:
    return [
        *(str(places.venv / "bin" / "vllm"), "serve", str(places.model)),
        *("--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "bfloat16", "--max-model-len", str(CONTEXT_TOKENS), "--enforce-eager"),
        *("--enable-prefix-caching", "--block-size", str(BLOCK_TOKENS)),
        *("--num-gpu-blocks-override", str(cache_blocks)),
        *("--max-num-seqs", str(SEQUENCES), "--max-num-batched-tokens", str(BATCHED_TOKENS)),
        *("--enable-prompt-tokens-details", "--enable-scale-out"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    ]


def _environment(places: Places, index: int) -> dict[str, str]:
    cores = sorted(os.sched_getaffinity(0))
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # GiB, an integer; the blocks are capped far below it.
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": str(cores[index % len(cores)]),
        # For /reset_prefix_cache.
        "VLLM_SERVER_DEV_MODE": "1",
        # Equal block hashes on all replicas and after each restart.
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(places.lmcache),
        "LMCACHE_DISABLE_BANNER": "1",
        "LMCACHE_TRACK_USAGE": "false",
    }
