"""Does the engine keep prefixes at all, alike on every replica, and as many as it could?"""

from collections.abc import Iterator

from kvproxy.admin.doctor.facts import Fleet, ReplicaFacts
from kvproxy.admin.doctor.finding import Finding, Severity

# Labels of cache_config_info that decide how prefixes are named and cut.
_ALIKE = {
    "block_size": "--block-size",
    "prefix_caching_hash_algo": "--prefix-caching-hash-algo",
    "cache_dtype": "--kv-cache-dtype",
}
_WIDE = ("auto", "bfloat16", "float16", "half")


def check(fleet: Fleet) -> Iterator[Finding]:
    for replica in fleet.reached:
        yield from _prefix_caching(replica)
        yield from _dtype(replica)
        yield from _untold(replica)
    yield from _differing(fleet)


def _prefix_caching(replica: ReplicaFacts) -> Iterator[Finding]:
    if replica.cache.get("enable_prefix_caching") == "False":
        yield Finding(
            "prefix_caching_off",
            Severity.ERROR,
            replica.id,
            "Prefix caching is off: every turn prefills its whole conversation again, and LMCache "
            "names its chunks by a hash that only prefix caching gives.",
            'cache_config_info says enable_prefix_caching="False"',
            "Start vLLM with --enable-prefix-caching (and without --no-enable-prefix-caching).",
        )


def _dtype(replica: ReplicaFacts) -> Iterator[Finding]:
    dtype = replica.cache.get("cache_dtype", "")
    if dtype in _WIDE:
        yield Finding(
            "kv_dtype",
            Severity.NOTE,
            replica.id,
            "KV is kept in 16 bits; in FP8 the same memory holds twice the tokens.",
            f'cache_config_info says cache_dtype="{dtype}"',
            "Start vLLM with --kv-cache-dtype fp8, after a look at your quality figures.",
        )


def _untold(replica: ReplicaFacts) -> Iterator[Finding]:
    if replica.engine == "vllm" and not replica.cache:
        yield Finding(
            "cache_size_unknown",
            Severity.WARNING,
            replica.id,
            "It does not tell the size of its cache, so kvproxy goes by index.hbm_tokens_default.",
            "no vllm:cache_config_info on /metrics",
            "Start vLLM without --disable-log-stats, or set replicas[].hbm_tokens.",
        )


def _differing(fleet: Fleet) -> Iterator[Finding]:
    by_model: dict[tuple[str, ...], list[ReplicaFacts]] = {}
    for replica in fleet.reached:
        by_model.setdefault(replica.models, []).append(replica)
    for alike in by_model.values():
        for label, flag in _ALIKE.items():
            seen = {r.id: r.cache[label] for r in alike if label in r.cache}
            if len(set(seen.values())) > 1:
                yield Finding(
                    f"{label}_differs",
                    Severity.WARNING,
                    "",
                    "Replicas of one model name their blocks differently: what one stores in a "
                    "shared tier the others cannot find.",
                    "; ".join(f"{name}: {value}" for name, value in seen.items()),
                    f"Start all of them with the same {flag}.",
                )
