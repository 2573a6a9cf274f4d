"""What is known of caches through events, read when somebody asks for metrics."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvproxy.core.holdings import Holdings


class KnowledgeGauges(Collector):
    """What is known through events, how much of it is lost, and how far each source is trusted."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def collect(self) -> Iterable[Metric]:
        index, chains = self._holdings.index, self._holdings.chains
        trust = GaugeMetricFamily(
            "kvproxy_source_trust",
            "Share of late predictions that were right",
            labels=["replica", "source"],
        )
        trusted = GaugeMetricFamily(
            "kvproxy_source_trusted", "1 if the source is believed", labels=["replica", "source"]
        )
        for replica, source, share in self._holdings.trust.figures():
            trust.add_metric([replica, source], share)
            believed = self._holdings.trust.trusts(replica, source)
            trusted.add_metric([replica, source], float(believed))
        yield trust
        yield trusted
        by_tier = ["replica", "tier"]
        tokens = GaugeMetricFamily("kvproxy_index_tokens", "Announced as held", labels=by_tier)
        lost: Counter[tuple[str, str]] = Counter()
        for replica, _, announced in index:
            for tier, blocks in announced.tiers.items():
                size = announced.block_size * blocks.stride
                tokens.add_metric([replica, tier], len(blocks) * size)
            for reason in ("orphans", "other_groups", "refused", "unknown_removals"):
                lost[replica, reason] += getattr(announced.counts, reason)
        yield tokens
        family = GaugeMetricFamily(
            "kvproxy_index_unused_blocks",
            "Announced since the last resync and of no use, by reason",
            labels=["replica", "reason"],
        )
        for (replica, reason), count in lost.items():
            family.add_metric([replica, reason], count)
        yield family
        used = index.budget.used
        yield GaugeMetricFamily("kvproxy_index_bytes", "of events.index_max_bytes", value=used)
        yield GaugeMetricFamily("kvproxy_anchors", "Prompts with known tokens", value=len(chains))
        taken = chains.bytes
        yield GaugeMetricFamily("kvproxy_anchors_bytes", "of events.anchors_max_bytes", value=taken)
