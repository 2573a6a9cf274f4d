"""Asking LMCache: its coordinator, its servers, and the API inside an engine."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import aiohttp
import orjson

from kvproxy.admin.doctor.asking import Asker, why
from kvproxy.admin.doctor.facts import LmcacheFacts, ServerFacts
from kvproxy.core import lmcache as wire
from kvproxy.core.lmcache import LmcacheError

_ASKING = (aiohttp.ClientError, TimeoutError, ValueError, OSError, LmcacheError)
# Where a setting stands: in a server's /config, and in /conf of the one inside an engine.
_PAGES = ("/config", "/conf")
_LOOKUP_EVERY_S = 0.5
GIB = 2**30


async def look(asker: Asker, coordinator_url: str, servers: Sequence[str]) -> LmcacheFacts:
    """`servers` are HTTP addresses beyond those that the coordinator names."""
    facts = LmcacheFacts(coordinator_url)
    usage: dict[str, int] = {}
    if coordinator_url:
        try:
            listed = await asker.get(coordinator_url, "/instances")
            facts.instances = wire.read_instances(listed.body)
        except _ASKING as error:
            facts.trouble = why(error, coordinator_url)
        with contextlib.suppress(*_ASKING):
            usage = wire.read_dram_bytes(
                (await asker.get(coordinator_url, "/instances/usage")).body
            )
    named = [(each.id, f"http://{each.host}:{each.http_port}") for each in facts.instances]
    named += [(url.removeprefix("http://"), url) for url in servers]
    facts.servers = list(await asyncio.gather(*(_server(asker, *each) for each in named)))
    for server in facts.servers:
        server.dram_bytes = server.dram_bytes or usage.get(server.name)
    return facts


async def _server(asker: Asker, name: str, url: str) -> ServerFacts:
    facts = ServerFacts(name, url)
    for path in _PAGES:
        try:
            page = await asker.get(url, path)
            if page.ok:
                _settings(facts, orjson.loads(page.body))
                return facts
            facts.trouble = f"{url}{path} answered {page.status}"
        except _ASKING as error:
            facts.trouble = why(error, url)
    return facts


def _settings(facts: ServerFacts, page: object) -> None:
    """From either page; they nest their keys differently, and the keys are unique in both."""
    facts.trouble = ""
    chunk = _find(page, "chunk_size")
    facts.chunk_tokens = chunk if isinstance(chunk, int) else None
    size, gigabytes = _find(page, "size_in_bytes"), _find(page, "max_local_cpu_size")
    if isinstance(size, int):
        facts.dram_bytes = size
    elif isinstance(gigabytes, int | float):
        facts.dram_bytes = int(gigabytes * GIB)
    save = _find(page, "save_decode_cache")
    facts.save_decode = save if isinstance(save, bool) else None
    facts.hash_algorithm = str(_find(page, "hash_algorithm") or "")


def _find(page: object, key: str) -> object:
    """The first value named `key`, at whatever depth; None where there is none."""
    if isinstance(page, Mapping):
        if key in page:
            return page[key]
        for value in page.values():
            found = _find(value, key)
            if found is not None:
                return found
    return None


async def find_probe(
    asker: Asker,
    facts: LmcacheFacts,
    token_ids: Sequence[int],
    models: Sequence[str],
    lookups: int,
) -> None:
    """Who holds the probe's prompt; storing takes a moment, so it is asked a few times."""
    chunk = next((s.chunk_tokens for s in facts.servers if s.chunk_tokens), None) or 256
    facts.probe_chunks = {}
    for _ in range(lookups):
        for model in models:
            body = wire.lookup_body(token_ids, model, "", 1)
            with contextlib.suppress(*_ASKING):
                page = await asker.post(facts.coordinator_url, "/directory/lookup", body)
                found = wire.read_lookup(page.body, chunk)
                facts.chunk_tokens, facts.chunk_bytes = chunk, found.chunk_bytes
                tokens = {name: sum(tiers.values()) for name, tiers in found.holdings.items()}
                chunks = {name: n // chunk for name, n in tokens.items() if n}
                if chunks:
                    # Of a model's names LMCache knows one; the others find nothing.
                    facts.probe_chunks = chunks
                    return
        await asyncio.sleep(_LOOKUP_EVERY_S)
