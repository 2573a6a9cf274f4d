from prometheus_client.parser import text_string_to_metric_families

from loadgen.output.prometheus import exposition
from loadgen.stats import summarise
from tests.support.samples import sample


def test_a_parser_reads_it_back() -> None:
    summary = summarise([sample(), sample(replica='odd "one"'), sample(error="timeout")], 16)
    summary |= {"duration_s": 3.0, "slo": {"attainment": 0.5, "goodput_per_s": 0.25}}
    found = {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(exposition(summary))
        for one in family.samples
    }
    assert found["kvproxy_loadgen_ttft_seconds", "0.95"] == 0.5
    assert found["kvproxy_loadgen_requests",] == 3
    assert found["kvproxy_loadgen_hit_ratio_reported",] == 0.8
    assert found["kvproxy_loadgen_slo_attainment_ratio",] == 0.5
    assert found["kvproxy_loadgen_replica_requests", 'odd "one"'] == 1


def test_trouble_made_on_purpose_is_counted() -> None:
    made = [
        sample(), sample(fault="slow"), sample(fault="slow", attempts=3),
        *[sample(error="aborted", fault="abort")] * 3, sample(error="cancelled"),
    ]  # fmt: skip
    text = exposition(summarise(made, 16) | {"duration_s": 1.0})
    found = dict(line.split() for line in text.splitlines() if line[0] != "#")
    counted = ("requests", "cancelled", "aborted", "slow_readers", "retries")
    assert [found[f"kvproxy_loadgen_{name}"] for name in counted] == ["3", "1", "3", "2", "2"]


def test_what_was_not_measured_is_left_out() -> None:
    text = exposition(summarise([], 16))
    assert "quantile" not in text
    assert "hit_ratio" not in text
