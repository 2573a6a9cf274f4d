"""/metrics of an emulated replica: vLLM's names and labels.

Gauges and token counters are read from the engine when scraped; histograms come from `metrics`.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from loadgen.emulator.metrics import ReplicaMetrics
from loadgen.emulator.planted import ASKED_TOKENS, Planted
from loadgen.emulator.settings import EmulatorSettings
from loadgen.engine_model import Gauges


def exposition(settings: EmulatorSettings, gauges: Gauges, metrics: ReplicaMetrics) -> bytes:
    """Prometheus text of everything."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(list(_families(settings, gauges, metrics))))
    return generate_latest(registry)


def _families(
    settings: EmulatorSettings, gauges: Gauges, metrics: ReplicaMetrics
) -> Iterator[Metric]:
    labels = {"engine": "0", "model_name": settings.model}
    born_s = metrics.created_s
    for name, text, value in _gauges(gauges):
        yield _plain(name, text, labels, value)
    for name, text, value in [*_counters(gauges, settings.planted), *_lmcache(gauges, settings)]:
        yield _plain(name, text, labels, value, born_s)
    name, text, parts = _waiting_split(gauges)
    yield _split((name, text), labels, "reason", parts)
    for name, text, parts in _source_splits(gauges):
        yield _split((name, text), labels, "source", parts, born_s)
    named = ("vllm:request_success", "Count of successfully processed requests.")
    yield _split(named, labels, "finished_reason", metrics.finished, born_s)
    named = ("vllm:engine_sleep_state", "1 for the state that the engine is in.")
    sleeps = Planted.ASLEEP in settings.planted
    asleep = {"awake": int(not sleeps), "weights_offloaded": int(sleeps), "discard_all": 0}
    yield _split(named, labels, "sleep_state", asleep)
    named = ("vllm:admission_rejections", "Requests refused by a queue limit, by reason.")
    refused = dict.fromkeys(("max_num_queued_reqs", "max_num_queued_tokens"), 0)
    yield _split(named, {"model_name": settings.model}, "reason", refused, born_s)
    for histogram in metrics.histograms:
        yield histogram.family(labels, born_s)
    yield _cache_config(settings)


def _cache_config(settings: EmulatorSettings) -> Metric:
    """All of a real engine's labels; those of techniques that are not emulated say so."""
    limits = settings.limits()
    tokens = limits.num_blocks * limits.block_size
    off = dict.fromkeys(_CACHE_FEATURES_OFF, False)
    unset = dict.fromkeys(_CACHE_FEATURES_UNSET)
    config: dict[str, object] = {
        "engine": "0",
        "_block_size_resolved": True,
        "block_size": limits.block_size,
        "cache_dtype": settings.cache_dtype,
        "effective_attention_block_size": limits.block_size,
        "enable_prefix_caching": limits.prefix_caching,
        "gpu_memory_utilization": 0.92,
        "kv_cache_dtype_skip_layers": [],
        "kv_cache_max_concurrency": tokens / settings.context_tokens,
        "kv_cache_size_tokens": tokens,
        "kv_offloading_backend": "native",
        "mamba_cache_dtype": "auto",
        "mamba_cache_mode": "none",
        "mamba_ssm_cache_dtype": "float32",
        "num_gpu_blocks": limits.num_blocks,
        "prefix_cache_retention_interval": 0,
        "prefix_caching_hash_algo": _algorithm(settings),
        "replayssm_buffer_len": 16,
        "swa_bounded_replay": True,
        "user_specified_block_size": True,
        **off,
        **unset,
    }
    family = GaugeMetricFamily(
        "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", labels=list(config)
    )
    family.add_metric([str(value) for value in config.values()], 1.0)
    return family


_CACHE_FEATURES_OFF = (
    "enable_mamba_shared_prefix_checkpoint",
    "is_attention_free",
    "kv_sharing_fast_prefill",
    "use_kda_recoverssm",
    "use_replayssm",
)
_CACHE_FEATURES_UNSET = (
    *("cache_hit_alignment_tokens", "hash_block_size", "kv_cache_layout", "kv_cache_memory_bytes"),
    *("kv_offloading_size", "mamba_block_size", "mamba_page_size_padded", "num_cpu_blocks"),
    *("num_gpu_blocks_override", "prefix_match_unit", "skip_page_size_padded", "sliding_window"),
)


def _plain(
    name: str, text: str, labels: dict[str, str], value: float, born_s: float | None = None
) -> Metric:
    """A counter if it was `born_s`, else a gauge."""
    return _family((name, text), labels, [([], value)], born_s)


def _split(
    name_text: tuple[str, str],
    labels: dict[str, str],
    label: str,
    parts: dict[str, int],
    born_s: float | None = None,
) -> Metric:
    """One series per part, told apart by `label`."""
    series = [([part], float(value)) for part, value in parts.items()]
    return _family(name_text, labels, series, born_s, label)


def _family(
    name_text: tuple[str, str],
    labels: dict[str, str],
    series: list[tuple[list[str], float]],
    born_s: float | None,
    *extra: str,
) -> Metric:
    names = [*labels, *extra]
    if born_s is None:
        gauge = GaugeMetricFamily(*name_text, labels=names)
        for parts, value in series:
            gauge.add_metric([*labels.values(), *parts], value)
        return gauge
    counter = CounterMetricFamily(*name_text, labels=names)
    for parts, value in series:
        counter.add_metric([*labels.values(), *parts], value, created=born_s)
    return counter


def _gauges(gauges: Gauges) -> list[tuple[str, str, float]]:
    return [
        ("vllm:num_requests_running", "Requests in model execution batches.", gauges.running),
        ("vllm:num_requests_waiting", "Requests waiting to be processed.", gauges.waiting),
        ("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent.", gauges.kv_usage),
    ]


def _algorithm(settings: EmulatorSettings) -> str:
    return "sha256_cbor" if Planted.HASH_ALGORITHM in settings.planted else "xxhash"


def _lmcache(gauges: Gauges, settings: EmulatorSettings) -> list[tuple[str, str, float]]:
    """Counters of an LMCache inside the engine, shown by those faults that are about it."""
    if not settings.planted & {Planted.LMCACHE_SEED, Planted.TENSOR_PARALLEL}:
        return []
    looked_up = gauges.prefix_queries
    return [
        ("lmcache:num_lookup_tokens", "Tokens looked up in LMCache.", looked_up),
        ("lmcache:num_lookup_hits", "Tokens found there.", 0),
        ("lmcache:num_stored_tokens", "Tokens stored.", looked_up),
    ]


def _counters(gauges: Gauges, planted: frozenset[Planted]) -> list[tuple[str, str, float]]:
    asked = ASKED_TOKENS if Planted.TIER_IDLE in planted else gauges.dram_queries
    return [
        ("vllm:prefix_cache_queries", "Queried tokens.", gauges.prefix_queries),
        ("vllm:prefix_cache_hits", "Cached tokens.", gauges.prefix_hits),
        ("vllm:external_prefix_cache_queries", "Tokens asked of DRAM.", asked),
        ("vllm:external_prefix_cache_hits", "Tokens found in DRAM.", gauges.dram_hits),
        ("vllm:mm_cache_queries", "Queried multi-modal items.", 0),
        ("vllm:mm_cache_hits", "Cached multi-modal items.", 0),
        ("vllm:num_preemptions", "Cumulative number of preemptions.", gauges.preemptions),
        ("vllm:prompt_tokens", "Number of prefill tokens processed.", gauges.prompt_tokens),
        ("vllm:prompt_tokens_cached", "Cached prompt tokens.", gauges.cached_prompt_tokens),
        ("vllm:generation_tokens", "Generation tokens processed.", gauges.generation_tokens),
    ]


def _waiting_split(gauges: Gauges) -> tuple[str, str, dict[str, int]]:
    parts = {"capacity": gauges.waiting - gauges.deferred, "deferred": gauges.deferred}
    return "vllm:num_requests_waiting_by_reason", "Waiting requests by reason.", parts


def _source_splits(gauges: Gauges) -> list[tuple[str, str, dict[str, int]]]:
    computed = gauges.prompt_tokens - gauges.cached_prompt_tokens
    local = gauges.cached_prompt_tokens - gauges.loaded_prompt_tokens
    by_source = {
        "local_compute": computed,
        "local_cache_hit": local,
        "external_kv_transfer": gauges.loaded_prompt_tokens,
    }
    by_tier = {"device": gauges.prefix_hits, "host": gauges.dram_hits}
    by_tier |= dict.fromkeys(("p2p", "disk", "external_unspecified"), 0)
    return [
        ("vllm:prompt_tokens_by_source", "Prompt tokens by source.", by_source),
        ("vllm:prompt_tokens_cached_by_source", "Hit tokens by cache tier.", by_tier),
    ]


class _Snapshot(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
