"""Examinations of emulated fleets, and facts to check by hand."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from kvproxy.admin.doctor.diagnose import diagnose
from kvproxy.admin.doctor.examine import Order, examine
from kvproxy.admin.doctor.facts import EventFacts, ReplicaFacts
from kvproxy.admin.doctor.finding import Finding
from kvproxy.core.kv_sources import KvSource
from loadgen.emulator import EmulatorSettings, Fleet
from loadgen.emulator.planted import Planted

# All that can be set right, is.
HEALTHY: dict[str, Any] = {"kv_events": True, "cache_dtype": "fp8"}


async def findings(
    *fleets: EmulatorSettings, coordinated: bool = False, servers: int = 0, **order: Any
) -> list[Finding]:
    """Of one replica of each kind, two where there is one kind, probed. `coordinated` names the
    first kind's LMCache coordinator, `servers` those of as many others as plain servers."""
    async with AsyncExitStack() as stack:
        running = [Fleet(each, 2 if len(fleets) == 1 else 1) for each in fleets]
        for fleet in running:
            await fleet.start()
            stack.push_async_callback(fleet.stop)
        urls = {url: f"r{n}" for n, url in enumerate(url for f in running for url in f.urls)}
        coordinators = [fleet.coordinator.url for fleet in running if fleet.coordinator]
        given = {"keepalive_s": 0.01, "pause_s": 0.01, "probing": True, "lookups": 2} | order
        if coordinated:
            given["coordinator_url"] = coordinators[0]
        if servers:
            given["lmcache_servers"] = coordinators[-servers:]
        return diagnose(await examine(Order(urls, **given), lambda _: None))


def planted(*faults: Planted, **more: Any) -> EmulatorSettings:
    return EmulatorSettings(**(HEALTHY | more), planted=frozenset(faults))


def codes(found: Sequence[Finding]) -> set[str]:
    return {finding.code for finding in found}


def well(name: str = "r0", **more: Any) -> ReplicaFacts:
    """A replica of which nothing bad is known."""
    cache = {"enable_prefix_caching": "True", "block_size": "16", "num_gpu_blocks": "1000"}
    source = KvSource(name, 0, "tcp://h:1", "tcp://h:2", "")
    made = ReplicaFacts(
        name,
        f"http://{name}",
        engine="vllm",
        version=(0, 33, 0),
        models=("m",),
        root="m",
        cache=cache | {"cache_dtype": "fp8", "prefix_caching_hash_algo": "sha256"},
        events=EventFacts(told=True, sources=[source]),
    )
    for key, value in more.items():
        setattr(made, key, value)
    return made
