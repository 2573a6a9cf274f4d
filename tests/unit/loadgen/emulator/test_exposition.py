import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadgen.emulator import EmulatorSettings
from loadgen.emulator.exposition import exposition
from loadgen.emulator.metrics import ReplicaMetrics
from loadgen.engine_model import Engine, EngineLimits, EngineRates, Request
from tests.support.shared import shared_path

SERIES = re.compile(r"^(vllm:\w+)(?:\{([^}]*)\})?", re.MULTILINE)
# Of the machine, of the engine's steps, and of how a request was asked.
NOT_EMULATED = {
    *("vllm:estimated_flops_per_gpu", "vllm:estimated_read_bytes_per_gpu"),
    *("vllm:estimated_write_bytes_per_gpu", "vllm:iteration_tokens_total"),
    *("vllm:request_params_n", "vllm:request_params_max_tokens"),
    "vllm:tool_call_parser_invocations",
}
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def text() -> str:
    engine = Engine(EngineRates(), EngineLimits())
    engine.submit(Request("a", bytes(8 * 6), 100, 5), 0.0)
    engine.advance(99.0)
    settings = EmulatorSettings(model="tiny", hbm_tokens=1600)
    return exposition(settings, engine.gauges(), ReplicaMetrics(7.0)).decode()


def series(exposed: str) -> dict[str, set[str]]:
    """Label names per series name."""
    found: dict[str, set[str]] = {}
    for name, labels in SERIES.findall(exposed):
        found.setdefault(name, set()).update(key for key, _ in LABEL.findall(labels))
    return found


def test_values():
    samples = {
        (sample.name, sample.labels.get("source")): sample.value
        for family in text_string_to_metric_families(text())
        for sample in family.samples
    }
    assert samples["vllm:num_requests_running", None] == 0
    assert samples["vllm:prompt_tokens_total", None] == 100
    assert samples["vllm:generation_tokens_total", None] == 5
    assert samples["vllm:prefix_cache_queries_total", None] == 100
    assert samples["vllm:prompt_tokens_by_source_total", "local_compute"] == 100
    assert samples["vllm:prompt_tokens_cached_by_source_total", "host"] == 0


def test_cache_config_is_written_as_python_strings():
    (line,) = [x for x in text().splitlines() if x.startswith("vllm:cache_config_info{")]
    labels = dict(LABEL.findall(line))
    assert labels["block_size"] == "16"
    assert labels["num_gpu_blocks"] == "100"
    assert labels["kv_cache_size_tokens"] == "1600"
    assert labels["enable_prefix_caching"] == "True"
    assert labels["hash_block_size"] == "None"
    assert line.endswith(" 1.0")


@pytest.mark.shared
def test_every_series_exists_in_a_real_one_with_the_same_labels():
    real = series(shared_path("vllm-samples", "http", "metrics.body").read_text())
    ours = series(text())
    assert ours.keys() <= real.keys()
    assert {name: real[name] for name in ours} == ours
    missing = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in real} - {
        re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in ours
    }
    assert missing == NOT_EMULATED


@pytest.mark.shared
def test_buckets_are_the_real_ones():
    real = shared_path("vllm-samples", "http", "metrics.body").read_text()
    # Those of tokens end where the longest context does.
    pattern = re.compile(
        r'^(vllm:\w+_(?:seconds|preemptions))_bucket\{.*le="([^"]+)"', re.MULTILINE
    )
    bounds = set(pattern.findall(text()))
    names = {name for name, _ in bounds}
    assert bounds == {found for found in pattern.findall(real) if found[0] in names}
