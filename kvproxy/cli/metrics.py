"""`kvproxy metrics`: every metric of /metrics, with its type, labels and meaning, as Markdown."""

from collections.abc import Iterator

import click

from kvproxy.adapters.kv_event_feed import FeedCounts
from kvproxy.app import App
from kvproxy.core.kv_sources import KvSource
from kvproxy.settings.model import Settings

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
}


@click.command()
def metrics() -> None:
    """Print the catalogue of metrics as Markdown."""
    click.echo(catalogue(), nl=False)


def catalogue() -> str:
    """Of a proxy with everything on that has metrics of its own."""
    return _HEAD + "\n".join(sorted(_rows())) + "\n"


def _rows() -> Iterator[str]:
    app = App(Settings.model_validate(_EVERYTHING))
    app.sources.feed.counts[KvSource("replica", 0, "", "", "")] = FeedCounts()
    for family in app.metrics.families():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(getattr(family, "_labelnames", ()))
        yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |"
