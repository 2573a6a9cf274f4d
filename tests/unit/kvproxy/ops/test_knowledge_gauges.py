from kvproxy.core.holdings import Holdings
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.ruler import Ruler
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.trust import Source
from kvproxy.ops.knowledge_gauges import KnowledgeGauges


def test_what_is_known_and_how_far_it_is_trusted() -> None:
    holdings = Holdings(Ruler(100), PrefixIndex(2**20), TokenChains(2**20))
    for _ in range(3):
        holdings.trust.observe("r0", Source.HISTORY, 4096, 4096, 16)
    shown = {
        (sample.name, *sample.labels.values()): sample.value
        for family in KnowledgeGauges(holdings).collect()
        for sample in family.samples
    }
    assert shown["kvproxy_source_trusted", "r0", "history"] == 1.0
    assert shown["kvproxy_source_trust", "r0", "history"] > 0.5
    assert shown["kvproxy_index_bytes",] == 0.0
    assert shown["kvproxy_anchors",] == 0.0
