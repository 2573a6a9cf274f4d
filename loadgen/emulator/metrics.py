"""/metrics of an emulated replica: vLLM's names, labels and buckets.

Gauges and token counters are read from the engine when scraped; only request histograms are kept
here. Times are virtual seconds.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from loadgen.emulator.settings import EmulatorSettings
from loadgen.engine_model import Admitted, Emission, Finished, FirstToken, Gauges, Request, Tokens

_TTFT_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
    160.0,
    640.0,
    2560.0,
)
_ITL_S = (
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
)
_REQUEST_S = (
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    120.0,
    240.0,
    480.0,
    960.0,
    1920.0,
    7680.0,
)
_TOKENS = tuple(
    float(digit * 10**power)
    for power in range(7)
    for digit in (1, 2, 5)
    if digit * 10**power <= 1_000_000
)
_REASONS = ("stop", "length", "abort", "error", "repetition")


class Histogram:
    """Bucket counts that take many equal observations at once."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.text = text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def family(self, labels: dict[str, str]) -> HistogramMetricFamily:
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family = HistogramMetricFamily(self.name, self.text, labels=list(labels))
        family.add_metric(list(labels.values()), buckets, self._sum)
        return family


@dataclass(slots=True)
class _Clock:
    """Times of one request, for its histograms."""

    request: Request
    submitted_s: float
    admitted_s: float | None = None
    last_token_s: float = 0.0
    generated: int = 0


class ReplicaMetrics:
    """Request histograms of a replica, and the text of /metrics."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self._clocks: dict[str, _Clock] = {}
        self._finished = dict.fromkeys(_REASONS, 0)
        self._ttft = Histogram(
            "vllm:time_to_first_token_seconds", "Time to first token in seconds.", _TTFT_S
        )
        self._itl = Histogram(
            "vllm:inter_token_latency_seconds", "Inter-token latency in seconds.", _ITL_S
        )
        self._e2e = Histogram(
            "vllm:e2e_request_latency_seconds", "E2E request latency in seconds.", _REQUEST_S
        )
        self._queue = Histogram(
            "vllm:request_queue_time_seconds", "Time spent in WAITING phase.", _REQUEST_S
        )
        self._prompt = Histogram(
            "vllm:request_prompt_tokens", "Number of prefill tokens processed.", _TOKENS
        )
        self._generation = Histogram(
            "vllm:request_generation_tokens", "Number of generation tokens processed.", _TOKENS
        )
        self._histograms = (
            self._ttft,
            self._itl,
            self._e2e,
            self._queue,
            self._prompt,
            self._generation,
        )

    def submitted(self, request: Request, now: float) -> None:
        self._clocks[request.id] = _Clock(request, now)

    def observe(self, emission: Emission) -> None:
        """Account for one emission; those of a request come in order and end with Finished."""
        clock = self._clocks[emission.id]
        time_s = emission.time_s
        if isinstance(emission, Tokens):
            interval_s = (time_s - clock.last_token_s) / emission.count
            self._itl.observe(interval_s, emission.count)
            clock.last_token_s = time_s
            clock.generated += emission.count
        elif isinstance(emission, FirstToken):
            self._ttft.observe(time_s - clock.submitted_s)
            clock.last_token_s = time_s
            clock.generated = 1
        elif isinstance(emission, Admitted):
            if clock.admitted_s is None:
                clock.admitted_s = time_s
                self._queue.observe(emission.queue_s)
        else:
            self._end(clock, emission)

    def _end(self, clock: _Clock, finished: Finished) -> None:
        del self._clocks[finished.id]
        self._finished[finished.reason] += 1
        self._e2e.observe(finished.time_s - clock.submitted_s)
        self._prompt.observe(clock.request.prompt_tokens)
        self._generation.observe(clock.generated)

    def exposition(self, gauges: Gauges) -> bytes:
        """Prometheus text of everything."""
        registry = CollectorRegistry()
        registry.register(_Snapshot(list(self._families(gauges))))
        return generate_latest(registry)

    def _families(self, gauges: Gauges) -> Iterator[Metric]:
        labels = {"engine": "0", "model_name": self._settings.model}
        for name, text, value in _gauges(gauges):
            yield _plain(GaugeMetricFamily, name, text, labels, value)
        for name, text, value in _counters(gauges):
            yield _plain(CounterMetricFamily, name, text, labels, value)
        name, text, parts = _waiting_split(gauges)
        yield _split(GaugeMetricFamily, name, text, labels, "reason", parts)
        for name, text, parts in _source_splits(gauges):
            yield _split(CounterMetricFamily, name, text, labels, "source", parts)
        name, text = "vllm:request_success", "Count of successfully processed requests."
        yield _split(CounterMetricFamily, name, text, labels, "finished_reason", self._finished)
        for histogram in self._histograms:
            yield histogram.family(labels)
        yield self._cache_config()

    def _cache_config(self) -> Metric:
        limits = self._settings.limits()
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
            "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", labels=config
        )
        family.add_metric([str(value) for value in config.values()], 1.0)
        return family


_Family = type[CounterMetricFamily] | type[GaugeMetricFamily]


def _plain(kind: _Family, name: str, text: str, labels: dict[str, str], value: float) -> Metric:
    family = kind(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _split(
    kind: _Family, name: str, text: str, labels: dict[str, str], label: str, parts: dict[str, int]
) -> Metric:
    """One series per part, told apart by `label`."""
    family = kind(name, text, labels=[*labels, label])
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
