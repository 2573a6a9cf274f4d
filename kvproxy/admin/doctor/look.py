"""Reading a replica's pages. Nothing here changes anything or costs a token."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import aiohttp
import msgspec
import orjson
import zmq
import zmq.asyncio

from kvproxy.admin.doctor import pages
from kvproxy.admin.doctor.asking import Asker, why
from kvproxy.admin.doctor.facts import EventFacts, PromptFacts, ReplicaFacts
from kvproxy.core.kv_sources import KvSource, SourceError, read_sglang, read_vllm

_REPLAY_TIMEOUT_S = 2.0
_BEYOND = (2**62).to_bytes(8, "big")
_BILLING = "x-anthropic-billing-header: cc_version=2.1.0; cc_entrypoint=cli; cch={};\n"
_ASKING = (aiohttp.ClientError, TimeoutError, ValueError, OSError)


async def look(
    asker: Asker,
    url: str,
    name: str,
    keepalive_s: float,
    pause_s: float,
    *,
    tls: ssl.SSLContext | None = None,
) -> ReplicaFacts:
    """All that can be read of one replica; takes `keepalive_s`, since idleness is waited for.
    `pause_s` lies between two renderings of the same conversation; `tls`: see Order."""
    facts = ReplicaFacts(name, url)
    try:
        await _health(asker, facts)
        if facts.trouble:
            return facts
        await _metrics(asker, facts)
    except _ASKING as error:
        facts.trouble = why(error, url)
        return facts
    idle, _, _, _ = await asyncio.gather(
        _idle_closed_s(url, keepalive_s, tls or ssl.create_default_context()),
        _server(asker, facts),
        _events(asker, facts),
        _prompt(asker, facts, pause_s),
    )
    facts.idle_closed_s = idle
    return facts


async def _health(asker: Asker, facts: ReplicaFacts) -> None:
    """/health and /v1/models: whether it is there, lets us in, and what it serves."""
    sent = time.time()
    health = await asker.get(facts.url, "/health")
    facts.skew_s = pages.skew_s(health.headers.get("Date", ""), sent, time.time())
    if health.status >= 500:
        facts.trouble = f"/health answered {health.status}"
        return
    models = await asker.get(facts.url, "/v1/models")
    if not models.ok:
        facts.trouble = f"/v1/models answered {models.status}"
        return
    listing = orjson.loads(models.body)
    data = listing.get("data") if isinstance(listing, dict) else None
    cards = [each for each in data or [] if isinstance(each, dict) and "id" in each]
    facts.models = tuple(str(card["id"]) for card in cards)
    facts.root = str((cards[0].get("root") or cards[0]["id"]) if cards else "")


async def _metrics(asker: Asker, facts: ReplicaFacts) -> None:
    page = await asker.get(facts.url, "/metrics")
    read = pages.read_metrics(page.body.decode(errors="replace") if page.ok else "")
    facts.engine, facts.cache = read.engine, read.cache
    facts.counters, facts.asleep = read.samples, read.asleep


async def _server(asker: Asker, facts: ReplicaFacts) -> None:
    """Version and ranks; either page may be missing."""
    with contextlib.suppress(*_ASKING):
        version = await asker.get(facts.url, "/version")
        facts.version = pages.read_version(version.body) if version.ok else ()
    with contextlib.suppress(*_ASKING):
        info = await asker.get(facts.url, "/server_info")
        facts.tensor_parallel = pages.read_tensor_parallel(info.body) if info.ok else None


async def _events(asker: Asker, facts: ReplicaFacts) -> None:
    events, host = facts.events, urlsplit(facts.url).hostname or ""
    host = f"[{host}]" if ":" in host else host
    for path, read in (("/kv_event_sources", read_vllm), ("/server_info", read_sglang)):
        with contextlib.suppress(*_ASKING):
            page = await asker.get(facts.url, path)
            if not page.ok:
                continue
            events.told = True
            try:
                events.sources += read(facts.id, host, page.body)
            except SourceError as error:
                events.refusal = str(error)
    await asyncio.gather(*(_hear(events, source) for source in events.sources))


async def _hear(events: EventFacts, source: KvSource) -> None:
    if source.endpoint.startswith("tcp://") and not await _listens(source.endpoint):
        events.deaf.append(source.endpoint)
    if source.replay and not await _replays(source.replay):
        events.silent_replays.append(source.replay)


async def _listens(endpoint: str) -> bool:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        async with asyncio.timeout(_REPLAY_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError, ValueError):
        return False
    writer.close()
    return True


async def _replays(endpoint: str) -> bool:
    """Asking for what comes after everything is answered with the end marker alone."""
    context = zmq.asyncio.Context()
    try:
        with context.socket(zmq.DEALER) as socket:
            socket.set(zmq.LINGER, 0)
            socket.connect(endpoint)
            await socket.send_multipart([b"", _BEYOND])
            return bool(await socket.poll(int(_REPLAY_TIMEOUT_S * 1000)))
    except zmq.ZMQError:
        return False
    finally:
        context.destroy(linger=0)


async def _prompt(asker: Asker, facts: ReplicaFacts, pause_s: float) -> None:
    """A conversation through /tokenize and back: what the template makes of it."""
    prompt, model = facts.prompt, facts.models[0] if facts.models else ""
    plain = await token_ids(asker, facts.url, model, _short("You are a helpful assistant."))
    if plain is None:
        return
    body = orjson.dumps({"model": model, "tokens": plain})
    with contextlib.suppress(*_ASKING):
        page = await asker.post(facts.url, "/detokenize", body)
        if page.ok:
            prompt.text = str(msgspec.json.decode(page.body, type=dict[str, object]).get("prompt"))
    await _billing(asker, facts.url, model, prompt)
    await asyncio.sleep(pause_s)
    again = await token_ids(asker, facts.url, model, _short("You are a helpful assistant."))
    prompt.steady = None if again is None else again == plain


async def _billing(asker: Asker, url: str, model: str, prompt: PromptFacts) -> None:
    first, second = [
        await token_ids(asker, url, model, _short(_BILLING.format(mark) + "You are Claude Code."))
        for mark in ("a1b2c", "9f8e7")
    ]
    if first is not None and second is not None:
        prompt.keeps_billing = first != second


async def token_ids(
    asker: Asker, url: str, model: str, messages: Sequence[Mapping[str, object]]
) -> list[int] | None:
    """What a conversation becomes; None where the engine has no /tokenize for it."""
    body = orjson.dumps({"model": model, "messages": messages})
    with contextlib.suppress(*_ASKING):
        page = await asker.post(url, "/tokenize", body)
        if page.ok:
            found = orjson.loads(page.body).get("tokens")
            return found if isinstance(found, list) else None
    return None


def _short(system: str) -> list[Mapping[str, object]]:
    return [
        {"role": "system", "content": [{"type": "text", "text": system}]},
        {"role": "user", "content": "Hello."},
    ]


async def _idle_closed_s(url: str, keepalive_s: float, tls: ssl.SSLContext) -> float | None:
    """After how long the replica closed an idle connection; None: not within `keepalive_s`."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    secure = tls if parts.scheme == "https" else None
    with contextlib.suppress(OSError):
        async with asyncio.timeout(_REPLAY_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure)
        try:
            writer.write(f"GET /health HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
            begun = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(keepalive_s + _REPLAY_TIMEOUT_S):
                    while await _some(reader, keepalive_s if begun else _REPLAY_TIMEOUT_S):
                        begun = time.monotonic()
                    return None if begun is None else time.monotonic() - begun
        finally:
            writer.close()
    return None


async def _some(reader: asyncio.StreamReader, wait_s: float) -> bytes:
    """What comes next, empty at the end of the connection; TimeoutError when nothing does."""
    async with asyncio.timeout(wait_s):
        return await reader.read(65536)
