"""Request histograms of an emulated replica, with vLLM's names and buckets, in virtual seconds.

Fed by what the engine emits; `exposition` adds gauges and counters when scraped.
"""

from bisect import bisect_left
from dataclasses import dataclass

from prometheus_client.core import HistogramMetricFamily

from loadgen.engine_model import Admitted, Emission, Finished, FirstToken, Request, Tokens

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
_PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
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

    def family(self, labels: dict[str, str], created_s: float) -> HistogramMetricFamily:
        """`created_s` is the time of day at which counting began."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family = HistogramMetricFamily(self.name, self.text, labels=list(labels))
        family.add_metric(list(labels.values()), buckets, self._sum)
        family.add_sample(f"{self.name}_created", labels, created_s)
        return family


@dataclass(slots=True)
class _Clock:
    """Times of one request, for its histograms."""

    request: Request
    submitted_s: float
    admitted_s: float | None = None
    computed: int = 0
    preemptions: int = 0
    first_token_s: float | None = None
    last_token_s: float = 0.0
    generated: int = 0


class ReplicaMetrics:
    """Histograms and end reasons of a replica's requests, counted since `created_s`, a time of
    day."""

    def __init__(self, created_s: float) -> None:
        self.created_s = created_s
        self._clocks: dict[str, _Clock] = {}
        self.finished = dict.fromkeys(_REASONS, 0)
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
        self._prefill = Histogram(
            "vllm:request_prefill_time_seconds", "Time spent in PREFILL phase.", _REQUEST_S
        )
        self._decode = Histogram(
            "vllm:request_decode_time_seconds", "Time spent in DECODE phase.", _REQUEST_S
        )
        self._inference = Histogram(
            "vllm:request_inference_time_seconds", "Time spent in RUNNING phase.", _REQUEST_S
        )
        self._tpot = Histogram(
            "vllm:request_time_per_output_token_seconds", "Mean of a request, in seconds.", _ITL_S
        )
        self._computed = Histogram(
            "vllm:request_prefill_kv_computed_tokens", "Prompt tokens not cached.", _TOKENS
        )
        self._longest = Histogram(
            "vllm:request_max_num_generation_tokens", "Tokens of the longest answer.", _TOKENS
        )
        self._preempted = Histogram(
            "vllm:request_num_preemptions", "Times that a request was preempted.", _PREEMPTIONS
        )
        self.histograms = tuple(one for one in vars(self).values() if isinstance(one, Histogram))

    def submitted(self, request: Request, now: float) -> None:
        self._clocks[request.id] = _Clock(request, now)

    def observe(self, emission: Emission) -> None:
        """Account for one emission; those of a request come in order and end with Finished."""
        clock = self._clocks[emission.id]
        time_s = emission.time_s
        if isinstance(emission, Tokens):
            interval_s = (time_s - clock.last_token_s) / emission.tokens
            self._itl.observe(interval_s, emission.tokens)
            clock.last_token_s = time_s
            clock.generated += emission.tokens
        elif isinstance(emission, FirstToken):
            self._ttft.observe(time_s - clock.submitted_s)
            clock.first_token_s = clock.last_token_s = time_s
            clock.generated = 1
        elif isinstance(emission, Admitted):
            if clock.admitted_s is None:
                clock.admitted_s, clock.computed = time_s, emission.computed
                self._queue.observe(emission.queue_s)
            else:
                clock.preemptions += 1
        else:
            self._end(clock, emission)

    def _end(self, clock: _Clock, finished: Finished) -> None:
        del self._clocks[finished.id]
        self.finished[finished.reason] += 1
        self._e2e.observe(finished.time_s - clock.submitted_s)
        self._prompt.observe(clock.request.prompt_tokens)
        self._generation.observe(clock.generated)
        self._longest.observe(clock.generated)
        self._preempted.observe(clock.preemptions)
        if clock.admitted_s is None or clock.first_token_s is None:
            return
        decode_s = clock.last_token_s - clock.first_token_s
        self._prefill.observe(clock.first_token_s - clock.admitted_s)
        self._decode.observe(decode_s)
        self._inference.observe(clock.last_token_s - clock.admitted_s)
        self._tpot.observe(decode_s / (clock.generated - 1) if clock.generated > 1 else 0.0)
        self._computed.observe(clock.computed)
