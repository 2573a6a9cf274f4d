"""/metrics of an emulated replica: vLLM's names and labels.

Gauges and token counters are read from the engine when scraped; histograms come from `metrics`.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from loadgen.emulator.metrics import ReplicaMetrics
from loadgen.emulator.settings import EmulatorSettings
from loadgen.engine_model import Gauges

_Family = type[CounterMetricFamily] | type[GaugeMetricFamily]


def exposition(settings: EmulatorSettings, gauges: Gauges, metrics: ReplicaMetrics) -> bytes:
    """Prometheus text of everything."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(list(_families(settings, gauges, metrics))))
    return generate_latest(registry)


def _families(
    settings: EmulatorSettings, gauges: Gauges, metrics: ReplicaMetrics
) -> Iterator[Metric]:
    labels = {"engine": "0", "model_name": settings.model}
    for name, text, value in _gauges(gauges):
        yield _plain(GaugeMetricFamily, name, text, labels, value)
    for name, text, value in _counters(gauges):
        yield _plain(CounterMetricFamily, name, text, labels, value)
    name, text, parts = _waiting_split(gauges)
    yield _split(GaugeMetricFamily, (name, text), labels, "reason", parts)
    for name, text, parts in _source_splits(gauges):
        yield _split(CounterMetricFamily, (name, text), labels, "source", parts)
    name, text = "vllm:request_success", "Count of successfully processed requests."
    yield _split(CounterMetricFamily, (name, text), labels, "finished_reason", metrics.finished)
    for histogram in metrics.histograms:
        yield histogram.family(labels)
    yield _cache_config(settings)


def _cache_config(settings: EmulatorSettings) -> Metric:
    limits = settings.limits()
    config = {
        "engine": "0",
        "block_size": limits.block_size,
        "cache_dtype": "auto",
        "effective_attention_block_size": limits.block_size,
        "enable_prefix_caching": limits.prefix_caching,
        "gpu_memory_utilization": 0.92,
        "hash_block_size": None,
        "kv_cache_size_tokens": limits.num_blocks * limits.block_size,
        "kv_offloading_backend": "native",
        "kv_offloading_size": None,
        "num_cpu_blocks": None,
        "num_gpu_blocks": limits.num_blocks,
        "num_gpu_blocks_override": None,
        "prefix_caching_hash_algo": "xxhash",
        "sliding_window": None,
        "user_specified_block_size": True,
    }
    family = GaugeMetricFamily(
        "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", labels=list(config)
    )
    family.add_metric([str(value) for value in config.values()], 1.0)
    return family


def _plain(kind: _Family, name: str, text: str, labels: dict[str, str], value: float) -> Metric:
    family = kind(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _split(
    kind: _Family,
    name_text: tuple[str, str],
    labels: dict[str, str],
    label: str,
    parts: dict[str, int],
) -> Metric:
    """One series per part, told apart by `label`."""
    family = kind(*name_text, labels=[*labels, label])
    for part, value in parts.items():
        family.add_metric([*labels.values(), part], value)
    return family


def _gauges(gauges: Gauges) -> list[tuple[str, str, float]]:
    return [
        ("vllm:num_requests_running", "Requests in model execution batches.", gauges.running),
        ("vllm:num_requests_waiting", "Requests waiting to be processed.", gauges.waiting),
        ("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent.", gauges.kv_usage),
    ]


def _counters(gauges: Gauges) -> list[tuple[str, str, float]]:
    return [
        ("vllm:prefix_cache_queries", "Queried tokens.", gauges.prefix_queries),
        ("vllm:prefix_cache_hits", "Cached tokens.", gauges.prefix_hits),
        ("vllm:external_prefix_cache_queries", "Tokens asked of DRAM.", gauges.dram_queries),
        ("vllm:external_prefix_cache_hits", "Tokens found in DRAM.", gauges.dram_hits),
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
