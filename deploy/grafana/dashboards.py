"""Writes the dashboards beside it: `python deploy/grafana/dashboards.py`.

A panel is a title, a unit and its queries; everything else is the same for all of them.
"""

import json
from pathlib import Path
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
FOLDER = Path(__file__).parent / "dashboards"
Panel = tuple[str, str, dict[str, str]]

_RATE = "[$__rate_interval]"


def _quantile(share: float, name: str, by: str = "") -> str:
    by = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({by}) (rate({name}_bucket{_RATE})))"


def _rate(name: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({name}{where}{_RATE}))"


def _ratio(source: str, by: str = "") -> str:
    group = f" by ({by})" if by else ""
    cached = f'sum{group} (rate(kvproxy_cached_tokens_total{{source="{source}"}}{_RATE}))'
    return f"{cached} / sum{group} (rate(kvproxy_prompt_tokens_total{_RATE}))"


OVERVIEW: list[Panel] = [
    ("Hit rate", "percentunit", {"reported": _ratio("reported"), "predicted": _ratio("predicted")}),
    ("TTFT", "s", {f"p{s * 100:.0f}": _quantile(s, "kvproxy_ttft_seconds") for s in (0.5, 0.95)}),
    ("Requests", "reqps", {"{{outcome}}": _rate("kvproxy_requests_total", "outcome")}),
    ("Prompt tokens", "short", {"prompt": f"sum(rate(kvproxy_prompt_tokens_total{_RATE}))",
        "cached": f'sum(rate(kvproxy_cached_tokens_total{{source="reported"}}{_RATE}))'}),
    ("Held back", "short", {"requests": "sum(kvproxy_queue_length)"}),
    ("Held back, time", "s", {"p95": _quantile(0.95, "kvproxy_queue_seconds"),
        "oldest": "max(kvproxy_queue_oldest_seconds)"}),
    # Of the proxy that sees the fewest: each of several has all replicas.
    ("Replicas ready", "short", {"ready": "min(sum by (instance) (kvproxy_replica_up))",
        "known": "max(count by (instance) (kvproxy_replica_up))"}),
    ("Retries", "reqps", {"retries": f"sum(rate(kvproxy_retries_total{_RATE}))"}),
    ("CPU of the proxy, cores", "short",
        {"{{instance}}": f'rate(process_cpu_seconds_total{{job="kvproxy"}}{_RATE})'}),
    ("Memory of the proxy", "bytes",
        {"{{instance}}": 'process_resident_memory_bytes{job="kvproxy"}'}),
]  # fmt: skip
CACHE: list[Panel] = [
    ("Tokens lost to prefix breaks, by cause", "short",
        {"{{cause}}": _rate("kvproxy_prefix_lost_tokens_total", "cause")}),
    ("Cached as predicted, by tier", "short",
        {"{{tier}}": _rate("kvproxy_predicted_tokens_total", "tier")}),
    ("Working set and HBM", "short", {"working set {{window}}": "kvproxy_working_set_tokens",
        "HBM left over": "kvproxy_hbm_usable_tokens"}),
    ("What the working set calls for", "short", {"{{regime}}": "kvproxy_regime == 1"}),
    ("Prediction error, p95", "short", {"{{source}}":
        _quantile(0.95, "kvproxy_cache_prediction_error_tokens", "source")}),
    ("Trust in sources", "percentunit", {"{{replica}} {{source}}": "kvproxy_source_trust"}),
    ("Announced as held", "short", {"{{replica}} {{tier}}": "kvproxy_index_tokens"}),
    ("Events", "short", {"{{replica}}": _rate("kvproxy_events_blocks_total", "replica")}),
    ("Changes to bodies", "short", {"{{kind}} {{mode}}": _rate("kvproxy_splices_total",
        "kind, mode")}),
    ("How conversations are known", "reqps",
        {"{{evidence}}": _rate("kvproxy_session_evidence_total", "evidence")}),
]  # fmt: skip
REPLICAS: list[Panel] = [
    ("Ready", "short", {"{{replica}}": "kvproxy_replica_up"}),
    ("Hit rate", "percentunit", {"{{replica}}": _ratio("reported", "replica")}),
    ("TTFT p95", "s", {"{{replica}}": _quantile(0.95, "kvproxy_ttft_seconds", "replica")}),
    ("In flight", "short", {"{{replica}}": "kvproxy_replica_in_flight"}),
    ("Prefill owed", "s", {"{{replica}}": "kvproxy_replica_queue_seconds"}),
    ("KV held of what fits", "percentunit",
        {"{{replica}}": "kvproxy_replica_hbm_held_tokens / kvproxy_replica_hbm_capacity_tokens"}),
    ("Conversations", "short", {"{{replica}}": "kvproxy_replica_sessions"}),
    ("Evicted", "short", {"{{replica}}": f"rate(kvproxy_replica_hbm_evicted_tokens{_RATE})"}),
    ("Prefill rate, learned", "short",
        {"{{replica}}": "kvproxy_replica_prefill_tokens_per_second"}),
    ("Engine: running and waiting", "short", {"{{instance}} running": "vllm:num_requests_running",
        "{{instance}} waiting": "vllm:num_requests_waiting"}),
]  # fmt: skip
LOAD_RUN: list[Panel] = [
    ("TTFT", "s", {"p{{quantile}}": "kvproxy_loadgen_ttft_seconds"}),
    ("Hit rate", "percentunit", {"reported": "kvproxy_loadgen_hit_ratio_reported",
        "possible": "kvproxy_loadgen_hit_ratio_bound"}),
    ("Requests", "short", {"requests": "kvproxy_loadgen_requests"}),
    ("Failed", "percentunit", {"failed": "kvproxy_loadgen_error_ratio"}),
    ("Cached tokens by replica", "short", {"{{replica}}": "kvproxy_loadgen_replica_cached_tokens"}),
]  # fmt: skip
ALL = {
    "overview": ("kvproxy: overview", OVERVIEW),
    "cache": ("kvproxy: cache and tiers", CACHE),
    "replicas": ("kvproxy: replicas", REPLICAS),
    "load_run": ("kvproxy: load run", LOAD_RUN),
}


def dashboard(uid: str, title: str, panels: list[Panel]) -> dict[str, Any]:
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "From"}
    return {
        "uid": f"kvproxy-{uid}",
        "title": title,
        "tags": ["kvproxy"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    title, unit, queries = panel
    return {
        "id": number + 1,
        "title": title,
        "type": "timeseries",
        "datasource": SOURCE,
        "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "lineWidth": 2}},
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi"}, "legend": {"displayMode": "list"}},
        "targets": [
            {"refId": chr(65 + n), "expr": expr, "legendFormat": legend, "datasource": SOURCE}
            for n, (legend, expr) in enumerate(queries.items())
        ],
    }


def pages() -> dict[Path, str]:
    """File → text of every dashboard."""
    return {
        FOLDER / f"{name}.json": json.dumps(dashboard(name, title, panels), indent=1) + "\n"
        for name, (title, panels) in ALL.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text)
