"""A run as one HTML file that needs nothing else: no network, no server, no other file.

Its content security policy names the digests of its own script and style; data is JSON in the page.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files

import orjson

from kvproxy.core.regime import Capacity, advise
from loadgen.output.scrape import INTERVAL_S, Scraped
from loadgen.output.timeline import Period, quantiles

_PAGE = files("loadgen.output") / "page"
# Regime advice speaks of the last quarter of an hour and of an hour.
_WINDOWS_S = (900.0, 3600.0)


def page(
    record: Mapping[str, object],
    periods: Sequence[Period],
    scrapes: Sequence[Scraped],
    time_scale: float,
) -> str:
    """`record` is run.json's content."""
    data = {
        "record": record,
        "series": _series(periods),
        "replicas": _replicas(periods),
        "scraped": _scraped(scrapes, time_scale),
        "tiers": _tiers(scrapes, time_scale),
        "advice": _advice(periods, scrapes),
        "events": _events(record, time_scale),
    }
    script = _text("vendor/uplot.js") + "\n" + _text("report.js")
    style = _text("vendor/uplot.css") + "\n" + _text("report.css")
    # "<" must not end the element that the JSON stands in.
    json = orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS).decode().replace("<", "\\u003c")
    parts = {
        "POLICY": f"default-src 'none'; script-src '{_digest(script)}'; "
        f"style-src '{_digest(style)}'; img-src data:",
        "STYLE": style,
        "SCRIPT": script,
        "DATA": json,
    }
    before, *pieces = _text("report.html").split("{{")
    for piece in pieces:
        name, _, after = piece.partition("}}")
        before += parts[name] + after
    return before


def _text(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _series(periods: Sequence[Period]) -> dict[str, list[float | int | None]]:
    """One list a figure, all as long as `t`."""
    series: dict[str, list[float | int | None]] = {"t": [p.end_s for p in periods]}
    ttft = [quantiles(p.ttfts_s, 0.5, 0.95, 0.99) for p in periods]
    itl = [quantiles(p.itls_s, 0.5, 0.95) for p in periods]
    series |= {f"ttft_{name}": [row[i] for row in ttft] for i, name in enumerate(_TTFT)}
    series |= {f"itl_{name}": [row[i] for row in itl] for i, name in enumerate(_TTFT[:2])}
    series["in_flight"] = [p.in_flight for p in periods]
    series["conversations"] = [len(p.users) for p in periods]
    series["requests_per_s"] = [p.ended / p.length_s for p in periods]
    series["failed_per_s"] = [p.failed / p.length_s for p in periods]
    series["hit_cached"] = [p.hit_rate for p in periods]
    for name in ("predicted", "bound"):
        tokens = [(getattr(p, f"{name}_tokens"), p.prompt_tokens) for p in periods]
        series[f"hit_{name}"] = [part / whole if whole else None for part, whole in tokens]
    for window_s in _WINDOWS_S:
        series[f"working_set_{window_s / 60:.0f}m"] = [p.working_set[window_s] for p in periods]
    return series


_TTFT = ("p50", "p95", "p99")


def _replicas(periods: Sequence[Period]) -> dict[str, list[int]]:
    """First tokens a period, by replica; what did not name one is left out."""
    names = sorted({name for p in periods for name in p.by_replica if name})
    return {name: [p.by_replica.get(name, 0) for p in periods] for name in names}


def _scraped(scrapes: Sequence[Scraped], scale: float) -> dict[str, dict[str, list[float]]]:
    rows: dict[str, dict[str, list[float]]] = {}
    for one in scrapes:
        if one.error:
            continue
        row = rows.setdefault(one.replica, {"t": [], "busy": [], "kv_usage": []})
        row["t"].append(one.t * scale)
        row["busy"].append(one.running + one.waiting)
        row["kv_usage"].append(one.kv_usage)
    return rows


def _tiers(scrapes: Sequence[Scraped], scale: float) -> dict[str, list[float]]:
    """Prompt tokens a second by where they came from, summed over the replicas of a round of
    scrapes."""
    latest: dict[str, Scraped] = {}
    rounds: dict[int, tuple[float, float, float]] = {}
    for one in scrapes:
        before, latest[one.replica] = latest.get(one.replica), one
        if one.error or before is None or before.error or one.t <= before.t:
            continue
        span_s = (one.t - before.t) * scale
        hbm = max(0.0, one.hbm_hits - before.hbm_hits) / span_s
        dram = max(0.0, one.dram_hits - before.dram_hits) / span_s
        prompt = max(0.0, one.prompt_tokens - before.prompt_tokens) / span_s
        sums = rounds.get(number := round(one.t / INTERVAL_S), (0.0, 0.0, 0.0))
        computed = max(0.0, prompt - hbm - dram)
        rounds[number] = (sums[0] + hbm, sums[1] + dram, sums[2] + computed)
    tiers: dict[str, list[float]] = {"t": [number * INTERVAL_S * scale for number in rounds]}
    for index, name in enumerate(("hbm", "dram", "computed")):
        tiers[name] = [row[index] for row in rounds.values()]
    return tiers


def _events(record: Mapping[str, object], scale: float) -> list[dict[str, object]]:
    """Commands of the run on the time axis of the charts, numbered as the marks on them are."""
    events = record.get("events") or []
    assert isinstance(events, Sequence)
    return [event | {"t": event["at_s"] * scale} for event in events]


def _advice(periods: Sequence[Period], scrapes: Sequence[Scraped]) -> dict[str, object] | None:
    """Regime advice from the largest working set, where replicas told the size of their caches."""
    sizes = {one.replica: one.hbm_tokens for one in scrapes if one.hbm_tokens}
    if not sizes:
        return None
    largest = {w: max(p.working_set[w] for p in periods) for w in _WINDOWS_S}
    hbm = sum(size for size in sizes.values() if size)
    return advise(largest, Capacity(hbm=hbm, held=0, dram=0)).as_json()
