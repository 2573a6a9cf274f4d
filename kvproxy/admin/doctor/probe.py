"""The paid probe: one prompt nobody has seen, sent twice to every replica, one after the other.

What the second replica finds the first time is what it shares with the first.
"""

import secrets
import time
from collections.abc import Mapping, Sequence

import aiohttp
import orjson

from kvproxy.admin.doctor import pages
from kvproxy.admin.doctor.asking import Asker, why
from kvproxy.admin.doctor.ear import Ear
from kvproxy.admin.doctor.facts import Pass, ProbeFacts, ReplicaFacts
from kvproxy.admin.doctor.look import token_ids

# Two chunks of LMCache and a half, at about one and a half tokens a word.
WORDS = 420
_WORDS = (
    *("amber", "bridge", "candle", "delta", "ember", "forest", "garden", "harbor", "island"),
    *("jungle", "kettle", "ladder", "meadow", "needle", "orchard", "pillar", "quarry", "river"),
)
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
    async with Ear(replica.events, _last_block(facts.token_ids, replica.block_size)) as ear:
        for rank in ranks:
            headers = {"x_data_parallel_rank": str(rank)} if rank >= 0 else {}
            for _ in range(2):
                try:
                    sent = await _send(asker, replica, payload, headers)
                except _FAILS as error:
                    facts.refusal = facts.refusal or why(error, replica.url)
                    break
                facts.passes.setdefault(rank, []).append(sent)
            await ear.listen(rank, facts.hashes)


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


def _last_block(ids: Sequence[int] | None, size: int | None) -> Sequence[int]:
    """The last whole block of the prompt: its name covers all of it."""
    whole = len(ids or ()) // size if size else 0
    return (ids or ())[(whole - 1) * size : whole * size] if size and whole else ()
