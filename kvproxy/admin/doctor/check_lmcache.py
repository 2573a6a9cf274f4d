"""Is LMCache set up so that it can help, and does it?"""

from collections.abc import Iterator

from kvproxy.admin.doctor.facts import Fleet, LmcacheFacts, ReplicaFacts, ServerFacts
from kvproxy.admin.doctor.finding import Finding, Severity

# Tokens asked of a tier before having found nothing means something.
_ASKED_ENOUGH = 50_000


def check(fleet: Fleet) -> Iterator[Finding]:
    lmcache = fleet.lmcache
    yield from _coordinator(fleet)
    for server in lmcache.servers:
        yield from _server(server)
        yield from _smaller_than_hbm(server, fleet)
    yield from _chunks(lmcache, fleet.reached)
    for replica in fleet.reached:
        yield from _idle(replica)


def _coordinator(fleet: Fleet) -> Iterator[Finding]:
    lmcache = fleet.lmcache
    if lmcache.trouble:
        yield Finding(
            "lmcache_unreachable",
            Severity.ERROR,
            "",
            "LMCache's coordinator cannot be asked, so kvproxy does not know what DRAM holds.",
            lmcache.trouble,
            f"See that `lmcache coordinator` runs and that {lmcache.coordinator_url} is "
            "reachable from here.",
        )
    elif lmcache.coordinator_url and len(lmcache.instances) < len(fleet.reached):
        known = ", ".join(instance.id for instance in lmcache.instances) or "none"
        yield Finding(
            "lmcache_heartbeat",
            Severity.WARNING,
            "",
            "Fewer LMCache servers are registered than there are replicas: some never came, or "
            "their heartbeats stopped and they were dropped.",
            f"{len(fleet.reached)} replicas, {len(lmcache.instances)} instances: {known}",
            "Start each server with --coordinator-url and --coordinator-event-reporting, and with "
            "a --coordinator-heartbeat-interval well below the coordinator's instance timeout "
            "(30 s). Nothing, if several replicas share a server.",
        )


def _server(server: ServerFacts) -> Iterator[Finding]:
    if server.trouble:
        yield Finding(
            "lmcache_server_unreachable",
            Severity.WARNING,
            server.name,
            "This LMCache cannot be asked.",
            server.trouble,
            f"See that {server.url} is reachable from here (--http-host, or "
            "LMCACHE_INTERNAL_API_SERVER_ENABLED=true for the one inside vLLM).",
        )
    if server.save_decode:
        yield Finding(
            "save_decode_cache",
            Severity.ERROR,
            server.name,
            "Every decoded block is copied to DRAM at once, which holds up the GPU for seconds, "
            "and decoded text is rarely asked for again.",
            "its configuration says save_decode_cache: true",
            "Unset LMCACHE_SAVE_DECODE_CACHE (or lmcache.mp.save_decode_cache).",
        )


def _smaller_than_hbm(server: ServerFacts, fleet: Fleet) -> Iterator[Finding]:
    sizes = [replica.hbm_tokens for replica in fleet.reached if replica.hbm_tokens]
    token_bytes = fleet.token_bytes
    lmcache = fleet.lmcache
    if token_bytes is None and lmcache.chunk_bytes and lmcache.chunk_tokens:
        token_bytes = lmcache.chunk_bytes / lmcache.chunk_tokens
    if not sizes or not token_bytes or not server.dram_bytes:
        return
    dram_tokens = int(server.dram_bytes / token_bytes)
    if dram_tokens < min(sizes):
        gigabytes = 2 * min(sizes) * token_bytes / 1e9
        yield Finding(
            "dram_smaller_than_hbm",
            Severity.WARNING,
            server.name,
            "Its DRAM tier holds less than one replica's HBM: what HBM pushes out is mostly gone "
            "from DRAM, too.",
            f"DRAM {dram_tokens:,} tokens, HBM {min(sizes):,} tokens",
            f"Give it at least twice HBM: --l1-size-gb {gigabytes:.0f} (LMCache server) or "
            f"LMCACHE_MAX_LOCAL_CPU_SIZE={gigabytes:.0f}.",
        )


def _chunks(lmcache: LmcacheFacts, replicas: list[ReplicaFacts]) -> Iterator[Finding]:
    cuts = {"coordinator": lmcache.chunk_tokens} if lmcache.chunk_tokens else {}
    cuts |= {s.name: s.chunk_tokens for s in lmcache.servers if s.chunk_tokens}
    if len(set(cuts.values())) > 1:
        yield Finding(
            "chunk_size_differs",
            Severity.ERROR,
            "",
            "LMCache cuts prompts differently here and there: what one stores, another never "
            "finds.",
            "; ".join(f"{name}: {size}" for name, size in cuts.items()),
            "Give all of them, and the coordinator, the same --chunk-size "
            "(LMCACHE_CHUNK_SIZE inside vLLM).",
        )
    for replica in replicas:
        size = replica.block_size
        odd = {chunk for chunk in cuts.values() if chunk and size and chunk % size}
        if odd:
            yield Finding(
                "chunk_not_whole_blocks",
                Severity.WARNING,
                replica.id,
                "A chunk of LMCache is not a whole number of the engine's blocks.",
                f"chunk size {', '.join(map(str, sorted(odd)))}, block size {size}",
                "Choose a --chunk-size that is a multiple of --block-size.",
            )


def _idle(replica: ReplicaFacts) -> Iterator[Finding]:
    """What the engine asked of the tier behind HBM, since it was started."""
    asked = replica.counters.get("vllm:external_prefix_cache_queries_total", 0.0)
    found = replica.counters.get("vllm:external_prefix_cache_hits_total", 0.0)
    if asked >= _ASKED_ENOUGH and not found:
        yield Finding(
            "lmcache_idle",
            Severity.WARNING,
            replica.id,
            "The tier behind HBM was asked and never had anything.",
            f"{asked:,.0f} tokens asked, none found since the engine was started",
            "Set PYTHONHASHSEED=0 in every engine's environment; if that is done, the working set "
            "fits HBM and the tier costs more than it gives (see /admin/regime).",
        )
