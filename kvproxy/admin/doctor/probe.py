"""The paid probe: one prompt nobody has seen, sent twice to every replica, one after the other.

What the second replica finds the first time is what it shares with the first.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Self

import aiohttp
import orjson
import zmq
import zmq.asyncio

from kvproxy.admin.doctor import pages
from kvproxy.admin.doctor.asking import Asker, why
from kvproxy.admin.doctor.facts import Pass, ProbeFacts, ReplicaFacts
from kvproxy.admin.doctor.look import token_ids
from kvproxy.core.kv_events import KvEventError, Stored, decode_batch

# Two chunks of LMCache and a half, at about one and a half tokens a word.
WORDS = 420
_WORDS = (
    *("amber", "bridge", "candle", "delta", "ember", "forest", "garden", "harbor", "island"),
    *("jungle", "kettle", "ladder", "meadow", "needle", "orchard", "pillar", "quarry", "river"),
)
_EVENTS_WAIT_MS = 400
_FAILS = (aiohttp.ClientError, TimeoutError, ValueError, OSError)


def messages() -> list[dict[str, str]]:
    """A conversation that is new to every cache from its first words on."""
    nonce = secrets.token_hex(8)
    words = " ".join(secrets.choice(_WORDS) for _ in range(WORDS))
    return [{"role": "user", "content": f"{nonce} {words}. Answer with one word."}]


async def probe(asker: Asker, replica: ReplicaFacts, asked: Sequence[Mapping[str, str]]) -> None:
    """Fills `replica.probe`. Ranks that publish events are asked one by one."""
    if not replica.models:
        return
    facts = replica.probe = ProbeFacts()
    ranks: Sequence[int] = sorted({source.rank for source in replica.events.sources})
    ranks = ranks if len(ranks) > 1 else [-1]
    body = {"model": replica.models[0], "messages": asked, "max_tokens": 1, "temperature": 0}
    payload = orjson.dumps(body)
    facts.token_ids = await token_ids(asker, replica.url, replica.models[0], asked)
    with _Ear(replica, facts.token_ids) as ear:
        for rank in ranks:
            headers = {"x_data_parallel_rank": str(rank)} if rank >= 0 else {}
            for _ in range(2):
                try:
                    sent = await _send(asker, replica, payload, headers)
                except _FAILS as error:
                    facts.refusal = facts.refusal or why(error, replica.url)
                    break
                facts.passes.setdefault(rank, []).append(sent)
            await ear.listen(facts.hashes)


async def _send(
    asker: Asker, replica: ReplicaFacts, payload: bytes, headers: dict[str, str]
) -> Pass:
    before = await _counters(asker, replica)
    begun = time.monotonic()
    answer = await asker.post(replica.url, "/v1/chat/completions", payload, **headers)
    took = time.monotonic() - begun
    if not answer.ok:
        said = answer.body[:200].decode(errors="replace")
        raise ValueError(f"chat answered {answer.status}: {said}")
    usage = orjson.loads(answer.body).get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    after = await _counters(asker, replica)

    def moved(*names: str) -> float | None:
        told = [after[name] - before.get(name, 0.0) for name in names if name in after]
        return sum(told) if told else None

    return Pass(
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=details.get("cached_tokens"),
        ttft_s=took,
        hits_delta=moved("vllm:prefix_cache_hits_total", "vllm:external_prefix_cache_hits_total"),
        lookups_delta=moved("lmcache:num_lookup_tokens_total"),
        lmcache_hits_delta=moved("lmcache:num_lookup_hits_total"),
        lmcache_stored_delta=moved("lmcache:num_stored_tokens_total"),
    )


async def _counters(asker: Asker, replica: ReplicaFacts) -> dict[str, float]:
    page = await asker.get(replica.url, "/metrics")
    return pages.read_metrics(page.body.decode(errors="replace")).samples if page.ok else {}


class _Ear:
    """Hears how the replica names the last whole block of the prompt, which covers all of it."""

    def __init__(self, replica: ReplicaFacts, ids: Sequence[int] | None) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set(zmq.LINGER, 0)
        self._block = _last_block(ids, replica.block_size)
        for source in replica.events.sources:
            if source.endpoint not in replica.events.deaf and "*" not in source.endpoint:
                self._socket.connect(source.endpoint)
        self._socket.subscribe(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    async def listen(self, hashes: dict[int, str]) -> None:
        """The block's name, by the rank that told of it; returns once one did, or soon if not."""
        while self._block and await self._socket.poll(_EVENTS_WAIT_MS):
            frames = await self._socket.recv_multipart()
            try:
                batch = decode_batch(frames[-1])
            except KvEventError:
                continue
            for event in batch.events:
                named = _named(event, self._block) if isinstance(event, Stored) else None
                if named is not None:
                    hashes[batch.rank] = f"{named:016x}"
                    return


def _last_block(ids: Sequence[int] | None, size: int | None) -> tuple[int, ...]:
    whole = len(ids or ()) // size if size else 0
    return tuple((ids or ())[(whole - 1) * size : whole * size]) if size and whole else ()


def _named(event: Stored, block: tuple[int, ...]) -> int | None:
    """The hash of `block` among those that `event` stores."""
    size = len(block)
    if event.block_size != size or len(event.tokens) != len(event.hashes) * size:
        return None
    for at, name in enumerate(event.hashes):
        if tuple(event.tokens[at * size : (at + 1) * size]) == block:
            return name
    return None
