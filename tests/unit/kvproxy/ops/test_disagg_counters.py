from kvproxy.ops.disagg_counters import disagg_counters


def test_outcomes_are_counters_and_the_rate_may_fall() -> None:
    found = list(disagg_counters({"remote": 3, "pull": 1}, 250_000.0))
    assert [(each.name, dict(each.labels), each.value, each.gauge) for each in found] == [
        ("kvproxy_disagg_requests", {"outcome": "pull"}, 1, False),
        ("kvproxy_disagg_requests", {"outcome": "remote"}, 3, False),
        ("kvproxy_kv_transfer_tokens_per_second", {}, 250_000.0, True),
    ]
