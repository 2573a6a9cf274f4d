"""Figures of prompts that were computed elsewhere than they were answered, for metrics."""

from collections.abc import Iterable, Mapping

from kvproxy.ops.source_counters import Counted


def disagg_counters(outcomes: Mapping[str, int], transfer_tok_s: float) -> Iterable[Counted]:
    """`outcomes` counts requests by what came of two legs; the rate is in tokens a second."""
    text = "Requests with two legs, by what came of them: remote and pull went as planned."
    for outcome, count in sorted(outcomes.items()):
        yield Counted("kvproxy_disagg_requests", text, {"outcome": outcome}, count)
    text = "Tokens of KV that travel between replicas in a second, as learned."
    yield Counted("kvproxy_kv_transfer_tokens_per_second", text, {}, transfer_tok_s, gauge=True)
