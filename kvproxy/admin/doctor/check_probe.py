"""What came of sending the same prompt twice to each replica, and once to each other."""

from collections import defaultdict
from collections.abc import Iterator

from kvproxy.admin.doctor.facts import Fleet, Pass, ReplicaFacts
from kvproxy.admin.doctor.finding import Finding, Severity

_SEED = "Set PYTHONHASHSEED=0 in the environment of every engine (and of every rank), and restart."


def check(fleet: Fleet) -> Iterator[Finding]:
    for replica in fleet.reached:
        if replica.probe is None:
            continue
        if replica.probe.refusal:
            yield _refused(replica)
        for rank, passes in replica.probe.passes.items():
            if len(passes) == 2:
                yield from _twice(replica, rank, *passes)
    yield from _tokens(fleet)
    yield from _hashes(fleet)
    yield from _nothing_stored(fleet)


def _refused(replica: ReplicaFacts) -> Finding:
    assert replica.probe is not None
    return Finding(
        "probe_refused",
        Severity.ERROR,
        replica.id,
        "It did not answer a plain chat request.",
        replica.probe.refusal,
        "Send the same request by hand and see the engine's log.",
    )


def _twice(replica: ReplicaFacts, rank: int, first: Pass, second: Pass) -> Iterator[Finding]:
    block = replica.block_size or 16
    whole = (second.prompt_tokens - 1) // block * block
    at = f"rank {rank}: " if rank >= 0 else ""
    if second.cached_tokens is None:
        yield Finding(
            "prompt_tokens_details_off",
            Severity.WARNING,
            replica.id,
            "Answers do not say how much of the prompt came from the cache, so kvproxy cannot "
            "check what it believes.",
            f"{at}usage has no prompt_tokens_details.cached_tokens",
            "Start vLLM with --enable-prompt-tokens-details (SGLang: --enable-cache-report).",
        )
    cached = second.cached_tokens if second.cached_tokens is not None else second.hits_delta
    if cached is not None and not cached:
        yield Finding(
            "identical_prompt_missed",
            Severity.ERROR,
            replica.id,
            "The same prompt sent twice was prefilled twice: the cache path does not fire.",
            f"{at}{second.prompt_tokens} tokens, 0 cached the second time; "
            f"{first.ttft_s:.2f} s and {second.ttft_s:.2f} s",
            "Start vLLM with --enable-prefix-caching. " + _SEED,
        )
    elif cached is not None and cached < whole - block and second.cached_tokens is not None:
        yield Finding(
            "identical_prompt_partly_missed",
            Severity.WARNING,
            replica.id,
            "The same prompt sent twice was found in part only.",
            f"{at}{cached:.0f} of {whole} cacheable tokens",
            "If the replica is busy its cache may be too small for what it holds; else look for a "
            "template that changes in the middle of the prompt.",
        )
    if second.lookups_delta and not second.lmcache_hits_delta:
        yield Finding(
            "lmcache_hash_seed",
            Severity.ERROR,
            replica.id,
            "LMCache was asked for the prompt it had just stored, and did not know it.",
            f"{at}{second.lookups_delta:.0f} tokens looked up, 0 found",
            _SEED,
        )


def _tokens(fleet: Fleet) -> Iterator[Finding]:
    by_model: dict[tuple[str, ...], dict[str, list[int]]] = defaultdict(dict)
    for replica in fleet.reached:
        if replica.probe is not None and replica.probe.token_ids:
            by_model[replica.models][replica.id] = replica.probe.token_ids
    for ids in by_model.values():
        if len(set(map(tuple, ids.values()))) > 1:
            yield Finding(
                "tokens_differ",
                Severity.WARNING,
                "",
                "Replicas of one model render the same conversation to different tokens: what "
                "one stores in a shared tier the others cannot find.",
                "; ".join(f"{name}: {len(found)} tokens" for name, found in ids.items()),
                "Give all of them the same model revision, vLLM version, --chat-template and "
                "--default-chat-template-kwargs.",
            )


def _hashes(fleet: Fleet) -> Iterator[Finding]:
    """Engines that name the same tokens differently."""
    by_tokens: dict[tuple[int, ...], dict[str, str]] = defaultdict(dict)
    for replica in fleet.reached:
        if replica.probe is not None:
            for rank, name in replica.probe.hashes.items():
                at = replica.id if rank <= 0 else f"{replica.id} rank {rank}"
                by_tokens[tuple(replica.probe.token_ids or ())][at] = name
    cuts = [(r.block_size, r.cache.get("prefix_caching_hash_algo")) for r in fleet.reached]
    alike = len(set(cuts)) == 1
    for named in by_tokens.values() if alike else ():
        if len(set(named.values())) > 1:
            shared = any(r.has_connector for r in fleet.reached) or fleet.lmcache.coordinator_url
            yield Finding(
                "hash_seed",
                Severity.ERROR if shared else Severity.WARNING,
                "",
                "Ranks or replicas name the same tokens differently. What one stores in a shared "
                "tier the others cannot find; kvproxy itself does not mind.",
                "; ".join(f"{at}: block {name}" for at, name in named.items()),
                _SEED + " Before vLLM 0.29 an unset seed is another one in every process.",
            )


def _nothing_stored(fleet: Fleet) -> Iterator[Finding]:
    lmcache = fleet.lmcache
    probed = any(replica.probe and replica.probe.passes for replica in fleet.reached)
    if lmcache.probe_chunks is not None and probed and not lmcache.probe_chunks:
        yield Finding(
            "lmcache_stores_nothing",
            Severity.ERROR,
            "",
            "LMCache is there and idle: the prompt that was just prefilled is in none of its "
            "servers.",
            f"{len(lmcache.instances)} instances, 0 chunks of the probe's prompt",
            'Start vLLM with --kv-transfer-config \'{"kv_connector": "LMCacheMPConnector", '
            '"kv_role": "kv_both", …}\' and --enable-prefix-caching, and each server with '
            "--coordinator-event-reporting.",
        )
    for replica in fleet.reached:
        for passes in (replica.probe.passes if replica.probe else {}).values():
            stored = passes[0].lmcache_stored_delta
            if stored == 0 and not passes[0].lmcache_hits_delta:
                yield Finding(
                    "lmcache_stores_nothing",
                    Severity.ERROR,
                    replica.id,
                    "LMCache inside this engine stored nothing of a prompt it had not seen.",
                    "lmcache:num_stored_tokens did not move",
                    "Set LMCACHE_LOCAL_CPU=true and LMCACHE_MAX_LOCAL_CPU_SIZE above 0.",
                )
