"""LMCache in its server form: a coordinator that knows who holds what, and a DRAM server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.realstack.places import Places
from tests.support.realstack.processes import free_ports, running

CHUNK_TOKENS = 256
DRAM_GB = 0.25
# What the console script of the package does; a --target install has no script that works.
_MAIN = "import sys; from lmcache.cli.main import main; sys.argv[0] = 'lmcache'; main()"


@dataclass(frozen=True, slots=True)
class Server:
    """`port` is where replicas connect (ZMQ), `url` its own HTTP."""

    instance_id: str
    port: int
    url: str


@asynccontextmanager
async def coordinator(places: Places) -> AsyncIterator[str]:
    """Yields its URL."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    arguments = ("--host", "127.0.0.1", "--port", str(port), "--chunk-size", str(CHUNK_TOKENS))
    command = [str(places.python), "-c", _MAIN, "coordinator", *arguments]
    log = places.logs / "lmcache-coordinator.log"
    async with running(command, _environment(places), log, f"{url}/healthz"):
        yield url


@asynccontextmanager
async def server(places: Places, instance_id: str, coordinator_url: str) -> AsyncIterator[Server]:
    port, http_port = free_ports(2)
    url = f"http://127.0.0.1:{http_port}"
    command = [
        *(str(places.python), "-c", _MAIN, "server", "--instance-id", instance_id),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--http-host", "127.0.0.1", "--http-port", str(http_port)),
        *("--chunk-size", str(CHUNK_TOKENS), "--l1-size-gb", str(DRAM_GB)),
        *("--eviction-policy", "LRU"),
        # The other mode copies through a GPU's memory handle; replicas would wait for it for ever.
        *("--supported-transfer-mode", "engine_driven"),
        *("--coordinator-url", coordinator_url, "--coordinator-advertise-ip", "127.0.0.1"),
        *("--coordinator-heartbeat-interval", "2", "--coordinator-event-reporting"),
        *("--coordinator-event-flush-interval", "0.2"),
    ]
    log = places.logs / f"lmcache-{instance_id}.log"
    async with running(command, _environment(places), log, f"{url}/healthcheck"):
        yield Server(instance_id, port, url)


def _environment(places: Places) -> dict[str, str]:
    return {
        "PYTHONPATH": str(places.lmcache),
        "PYTHONHASHSEED": "0",
        "LMCACHE_DISABLE_BANNER": "1",
        "LMCACHE_TRACK_USAGE": "false",
    }
