import pytest

from loadgen.emulator.metrics import Histogram, ReplicaMetrics
from loadgen.engine_model import Admitted, Finished, FirstToken, Request, Tokens


def buckets(histogram: Histogram) -> dict[str, float]:
    return {
        sample.labels["le"]: sample.value
        for sample in histogram.family({"engine": "0"}, 5.0).samples
        if sample.name.endswith("_bucket")
    }


def total(histogram: Histogram, part: str) -> float:
    samples = histogram.family({}, 5.0).samples
    return next(sample.value for sample in samples if sample.name.endswith(part))


def test_a_bound_belongs_to_its_bucket():
    histogram = Histogram("h", "text", (1.0, 2.0))
    histogram.observe(1.0)
    histogram.observe(1.5, times=3)
    histogram.observe(9.0)
    assert buckets(histogram) == {"1.0": 1, "2.0": 4, "+Inf": 5}
    assert total(histogram, "_created") == 5.0
    assert total(histogram, "_sum") == pytest.approx(1.0 + 4.5 + 9.0)


def test_times_of_a_request():
    metrics = ReplicaMetrics(5.0)
    metrics.submitted(Request("a", b"", 100, 5), 10.0)
    for emission in (
        Admitted("a", 11.0, 1.0, 0, 0, 100),
        FirstToken("a", 13.0),
        Tokens("a", 13.8, 4),
        Admitted("a", 14.0, 4.0, 0, 0, 104),
        Finished("a", 15.0, "length"),
    ):
        metrics.observe(emission)
    sums = {histogram.name: total(histogram, "_sum") for histogram in metrics.histograms}
    assert sums == {
        "vllm:time_to_first_token_seconds": 3.0,
        "vllm:inter_token_latency_seconds": pytest.approx(0.8),
        "vllm:e2e_request_latency_seconds": 5.0,
        "vllm:request_queue_time_seconds": 1.0,
        "vllm:request_prompt_tokens": 100.0,
        "vllm:request_generation_tokens": 5.0,
        "vllm:request_prefill_time_seconds": 2.0,
        "vllm:request_decode_time_seconds": pytest.approx(0.8),
        "vllm:request_inference_time_seconds": pytest.approx(2.8),
        "vllm:request_time_per_output_token_seconds": pytest.approx(0.2),
        "vllm:request_prefill_kv_computed_tokens": 100.0,
        "vllm:request_max_num_generation_tokens": 5.0,
        "vllm:request_num_preemptions": 1.0,
    }
    assert metrics.finished["length"] == 1
    assert metrics._clocks == {}


def test_an_abort_while_waiting():
    metrics = ReplicaMetrics(5.0)
    metrics.submitted(Request("a", b"", 100, 5), 10.0)
    metrics.observe(Finished("a", 12.0, "abort"))
    assert metrics.finished["abort"] == 1
    counts = {histogram.name: total(histogram, "_count") for histogram in metrics.histograms}
    assert counts["vllm:e2e_request_latency_seconds"] == 1
    assert counts["vllm:request_prefill_time_seconds"] == 0
