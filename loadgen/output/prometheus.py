"""A summary in Prometheus' text format, for a pushgateway or a node exporter's textfile folder."""

from collections.abc import Iterator, Mapping

_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
_PLAIN = {
    "requests": ("requests", "Requests that ended."),
    "cancelled": ("cancelled", "Requests cut off when the run ended."),
    "aborted": ("aborted", "Requests that their own client gave up."),
    "slow_readers": ("slow_readers", "Requests that ended and were read slowly on purpose."),
    "retries": ("retries", "Attempts beyond the first, after 429 and 503."),
    "error_rate": ("error_ratio", "Share of requests that failed."),
    "hit_rate_predicted": ("hit_ratio_predicted", "Cached over prompt tokens as the router said."),
    "hit_rate_reported": ("hit_ratio_reported", "Cached over prompt tokens as engines said."),
    "hit_rate_bound": ("hit_ratio_bound", "The same with one cache that never forgets."),
    "duration_s": ("duration_seconds", "Real time of the run."),
}


def exposition(summary: Mapping[str, object]) -> str:
    """What was not measured is left out."""
    return "".join(f"{line}\n" for line in _lines(summary))


def _lines(summary: Mapping[str, object]) -> Iterator[str]:
    for latency in ("ttft", "itl", "e2e"):
        name = f"kvproxy_loadgen_{latency}_seconds"
        yield f"# HELP {name} {latency} of successful requests, engine seconds."
        yield f"# TYPE {name} gauge"
        for key, share in _QUANTILES.items():
            value = summary[f"{latency}_{key}_s"]
            if value is not None:
                yield f'{name}{{quantile="{share}"}} {value}'
    for key, (short, text) in _PLAIN.items():
        if summary.get(key) is not None:
            yield from _gauge(short, text, summary[key])
    silent = summary["silent"]
    assert isinstance(silent, Mapping)
    text = "Requests without a first token that waited longer than the p95 of the others."
    yield from _gauge("silent_beyond_p95", text, silent["beyond_p95"])
    slo = summary.get("slo")
    if isinstance(slo, Mapping) and slo["attainment"] is not None:
        yield from _gauge("slo_attainment_ratio", "Share of requests in time.", slo["attainment"])
        yield from _gauge("goodput", "Requests in time a second.", slo["goodput_per_s"])
    replicas = summary["replicas"]
    assert isinstance(replicas, Mapping)
    for figure in ("requests", "prompt_tokens", "cached_tokens"):
        name = f"kvproxy_loadgen_replica_{figure}"
        yield f"# HELP {name} Per replica, of successful requests."
        yield f"# TYPE {name} gauge"
        for replica, row in replicas.items():
            if row[figure] is not None:
                yield f'{name}{{replica="{_escaped(replica)}"}} {row[figure]}'


def _gauge(short: str, text: str, value: object) -> Iterator[str]:
    yield f"# HELP kvproxy_loadgen_{short} {text}"
    yield f"# TYPE kvproxy_loadgen_{short} gauge"
    yield f"kvproxy_loadgen_{short} {value}"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
