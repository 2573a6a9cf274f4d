"""One examination: look at everything, probe if asked to, and say what is wrong."""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp

from kvproxy.admin.doctor import lmcache
from kvproxy.admin.doctor.asking import Asker
from kvproxy.admin.doctor.facts import Fleet
from kvproxy.admin.doctor.look import look
from kvproxy.admin.doctor.pages import dates_about
from kvproxy.admin.doctor.probe import messages, probe


@dataclass(frozen=True, slots=True)
class Order:
    """What to examine. `replicas`: name by URL; `keys`: bearer tokens by URL; `probing` costs two
    prompts of some 600 tokens on every replica. `token_bytes`: KV bytes of a token; `tls`: how
    https replicas are met, None for the system's way."""

    replicas: Mapping[str, str]
    keys: Mapping[str, str] = field(default_factory=dict)
    coordinator_url: str = ""
    lmcache_servers: Sequence[str] = ()
    probing: bool = False
    timeout_s: float = 60.0
    keepalive_s: float = 4.0
    pause_s: float = 1.1
    lookups: int = 12
    billing_dropped: bool = True
    token_bytes: float | None = None
    tensor_parallel: int | None = None
    tls: ssl.SSLContext | None = None


async def examine(order: Order, say: Callable[[str], None]) -> Fleet:
    """`say` is told what goes on, since it takes seconds."""
    timeout = aiohttp.ClientTimeout(total=order.timeout_s, sock_connect=5.0)
    connector = aiohttp.TCPConnector(ssl=order.tls or True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        asker = Asker(session, order.keys)
        say(
            f"looking at {len(order.replicas)} replicas "
            f"({order.keepalive_s:g} s, to see how long idle connections live)"
        )
        looks = (
            look(asker, url, name, order.keepalive_s, order.pause_s, tls=order.tls)
            for url, name in order.replicas.items()
        )
        replicas = list(await asyncio.gather(*looks))
        fleet = Fleet(
            replicas,
            token_bytes=order.token_bytes,
            keepalive_s=order.keepalive_s,
            billing_dropped=order.billing_dropped,
            today=dates_about(datetime.now(UTC)),
        )
        for replica in replicas:
            replica.tensor_parallel = replica.tensor_parallel or order.tensor_parallel
        fleet.lmcache = await lmcache.look(asker, order.coordinator_url, order.lmcache_servers)
        if order.probing:
            await _probe(asker, fleet, order.lookups, say)
        return fleet


async def _probe(asker: Asker, fleet: Fleet, lookups: int, say: Callable[[str], None]) -> None:
    """One after the other: what the next replica finds of the prompt, it shares."""
    asked = messages()
    for replica in fleet.reached:
        say(f"probing {replica.id}: one prompt, twice")
        await probe(asker, replica, asked)
    known = next((r.probe.token_ids for r in fleet.reached if r.probe and r.probe.token_ids), None)
    if fleet.lmcache.instances and known:
        say("asking LMCache for the prompt")
        models = sorted({name for r in fleet.reached for name in (r.root, *r.models) if name})
        await lmcache.find_probe(asker, fleet.lmcache, known, models, lookups)
