from kvproxy.ops.edge_counters import turned_away


def test_they_are_counted_by_reason() -> None:
    counted = turned_away()
    for why in ("gave_way", "bad_request", "gave_way"):
        counted.add((why,))
    assert counted.by(0) == {"gave_way": 2, "bad_request": 1}
