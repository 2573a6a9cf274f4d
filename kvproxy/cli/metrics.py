"""`kvproxy metrics`: every metric of /metrics, with its type, labels and meaning, as Markdown."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click
from prometheus_client.core import Metric

from kvproxy.adapters.kv_event_feed import FeedCounts
from kvproxy.app import App
from kvproxy.background import failures
from kvproxy.core.kv_sources import KvSource
from kvproxy.settings.model import Settings
from kvproxy.workers.placement import PlacementApp

_HEAD = """# Metrics

Written by `kvproxy metrics > config/metrics.md`; a test keeps it current. Times are in seconds,
sizes in tokens or bytes. No label names a conversation or a person. With `access.keys`, `/metrics`
wants an admin key unless `access.metrics_open` is set. [deploy/](../deploy/README.md) has rules,
alerts and dashboards.

| metric | type | labels | meaning |
|---|---|---|---|
"""

_EVERYTHING = {
    "replicas": ["http://replica"],
    "lmcache": {"coordinator_url": "http://coordinator"},
    "store": {"url": "redis://store"},
    "events": {"shard_across_proxies": True},
    "disagg": {"connector": "nixl"},
    "tracing": {"endpoint": "http://collector:4318"},
}


@click.command()
def metrics() -> None:
    """Print the catalogue of metrics as Markdown."""
    click.echo(catalogue(), nl=False)


def catalogue() -> str:
    """Of a proxy with everything on that has metrics of its own."""
    return _HEAD + "\n".join(sorted(_row(family) for family in _families().values())) + "\n"


def _families() -> dict[str, Metric]:
    """By name, of one process and of the one that places for workers, which logs no decisions.
    What has no figure yet at the start is given one here."""
    with TemporaryDirectory() as folder:
        logged = Settings.model_validate(
            _EVERYTHING | {"decisions": {"path": str(Path(folder) / "never-opened")}}
        )
        alone = App(logged)
        placing = PlacementApp(Settings.model_validate(_EVERYTHING), Path(folder))
        assert alone.decisions is not None
        assert alone.legs is not None
        alone.legs.outcomes["remote"] = failures["all"] = 0
        alone.sources.feed.counts[KvSource("replica", 0, "", "", "")] = FeedCounts()
        found = {family.name: family for family in placing.metrics.families()}
        found |= {family.name: family for family in alone.metrics.families()}
        alone.decisions.close()
        del failures["all"]
    return found


def _row(family: Metric) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(getattr(family, "_labelnames", ()))
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |"
